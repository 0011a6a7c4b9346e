#!/usr/bin/env python3
"""No source file over 700 lines; over 400 is named, unless scripts/long_files.txt says why it is one thing.

Each line of that list: `path: reason`. A path without a reason, or one that is no longer long, is an error.
"""

import os

from source_files import finish, gate_root, read_text, repository_files

SOFT, HARD = 400, 700
LIST = "scripts/long_files.txt"
SUFFIXES = [".h", ".cpp", ".cu", ".cuh", ".py", ".sh", ".cmake", "CMakeLists.txt", "dev", ".ci/run"]


def allowed_files(root, problems):
    """Path to reason, from the list."""
    allowed = {}
    if not os.path.exists(os.path.join(root, LIST)):
        return allowed
    for number, line in enumerate(read_text(root, LIST).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        path, _, reason = line.partition(":")
        if not reason.strip():
            problems.append(f"{LIST}:{number}: '{path.strip()}' has no reason")
        allowed[path.strip()] = reason.strip()
    return allowed


def problems_of(root):
    problems = []
    allowed = allowed_files(root, problems)
    for path in repository_files(root, SUFFIXES):
        lines = len(read_text(root, path).splitlines())
        if lines > HARD:
            problems.append(f"{path}: {lines} lines; the limit is {HARD}. Split it by what it holds")
        elif lines > SOFT and path not in allowed:
            print(f"warning: {path}: {lines} lines, over {SOFT}. Is there more than one thing in it?")
        elif lines <= SOFT and path in allowed:
            problems.append(f"{LIST}: {path} has {lines} lines; take it off the list")
        allowed.pop(path, None)
    problems += [f"{LIST}: there is no {path}" for path in allowed]
    return problems


if __name__ == "__main__":
    finish("file sizes", problems_of(gate_root(__doc__)))
