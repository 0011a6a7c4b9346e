#!/usr/bin/env python3
"""Headers begin with #pragma once; no file holds a path of somebody's machine or a mark of unfinished work."""

import re

from source_files import finish, gate_root, read_text, repository_files

HEADERS = (".h", ".cuh")
SUFFIXES = [".h", ".cpp", ".cu", ".cuh", ".py", ".sh", ".md", ".txt", ".json", ".yml", ".yaml", ".cmake", "dev", ".ci/run"]
# Written in pieces, so that this file passes its own check.
MACHINE_PATH = re.compile(r"(?:^|[^A-Za-z0-9._/-])/(?:ro" r"ot|ho" r"me|wo" r"rk|fa" r"rm)/")
UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK|NY" r"I)\b|not (?:yet )?imple" r"mented|for no" r"w\b")


def problems_of(root):
    for path in repository_files(root, SUFFIXES):
        text = read_text(root, path)
        # Highway includes an -inl.h once for each of its targets.
        once = path.endswith(HEADERS) and not path.endswith("-inl.h")
        if once and text.split("\n", 1)[0] != "#pragma once":
            yield f"{path}:1: the first line of a header is #pragma once"
        for number, line in enumerate(text.split("\n"), 1):
            if MACHINE_PATH.search(line):
                yield f"{path}:{number}: a path of one machine: {line.strip()[:80]}"
            if UNFINISHED.search(line) and not path.startswith("docs/decisions/"):
                yield f"{path}:{number}: a mark of unfinished work: {line.strip()[:80]}"


if __name__ == "__main__":
    finish("text", list(problems_of(gate_root(__doc__))))
