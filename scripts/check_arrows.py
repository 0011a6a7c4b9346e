#!/usr/bin/env python3
"""A file in src/FOLDER includes headers of its own folder and of folders before it, never of later ones."""

import re

from source_files import finish, gate_root, read_text, repository_files

ORDER = ["core", "ir", "model", "passes", "plan", "backend", "exec", "io", "data", "train", "cli"]
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def problems_of(root):
    for path in repository_files(root, [".h", ".cpp", ".cu", ".cuh"]):
        parts = path.split("/")
        if parts[0] != "src":
            continue
        if len(parts) < 3 or parts[1] not in ORDER:
            yield f"{path}: not in one of the folders of src: {', '.join(ORDER)}"
            continue
        text = read_text(root, path)
        for match in INCLUDE.finditer(text):
            line = text.count("\n", 0, match.start(1)) + 1
            folder = match.group(1).split("/")[0]
            if folder not in ORDER or "/" not in match.group(1):
                yield f'{path}:{line}: "{match.group(1)}" is not a path from src/ (e.g. "core/error.h")'
            elif ORDER.index(folder) > ORDER.index(parts[1]):
                yield f"{path}:{line}: {parts[1]} may not include {match.group(1)}: {folder} comes after {parts[1]}"


if __name__ == "__main__":
    finish("folder arrows", list(problems_of(gate_root(__doc__))))
