#!/usr/bin/env python3
"""A technique's options are named by its own pass and the settings table, and by nothing else in src.

Options are the types `...Options` defined in src/core/settings*.h or src/passes/*.h. One defined with the settings may
be named by one pass (X.h and X.cpp of src/passes); one defined in src/passes/X.h by that pass only. The pipeline is no
technique: what pass.h and pipeline.h define is free.
"""

import re

from source_files import finish, gate_root, read_text, repository_files

DEFINITION = re.compile(r"\b(?:struct|class)\s+(\w+Options)\b(?!\s*;)")
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
NOT_TECHNIQUES = {"pass", "pipeline"}


def pass_of(path):
    """`recompute` for src/passes/recompute.h and .cpp, else None."""
    match = re.fullmatch(r"src/passes/([^/]+)\.(?:h|cpp)", path)
    return match.group(1) if match else None


def is_settings(path):
    return path.startswith("src/core/settings")


def problems_of(root):
    text = {path: COMMENT.sub("", read_text(root, path))
            for path in repository_files(root, [".h", ".cpp", ".cu", ".cuh"]) if path.startswith("src/")}
    owner = {}  # type to its pass; None while no pass has named it
    for path, source in text.items():
        if path.endswith(".h") and (is_settings(path) or pass_of(path)) and pass_of(path) not in NOT_TECHNIQUES:
            owner.update({name: pass_of(path) for name in DEFINITION.findall(source)})
    for name in sorted(owner):
        users = [path for path in sorted(text) if re.search(rf"\b{name}\b", text[path]) and not is_settings(path)]
        passes = sorted({pass_of(path) for path in users if pass_of(path)})
        mine = owner[name] or (passes[0] if passes else None)
        if len(passes) > 1 and owner[name] is None:
            yield f"{name}: named by more than one pass: {', '.join(passes)}"
            continue
        for path in users:
            if pass_of(path) is None or pass_of(path) != mine:
                yield f"{path}: names {name}, which belongs to {f'src/passes/{mine}' if mine else 'the settings table'}"


if __name__ == "__main__":
    finish("technique options", list(problems_of(gate_root(__doc__))))
