#!/usr/bin/env python3
"""Reads paths, NUL between them, from standard input and prints the translation units that clang-tidy checks for them.

A header is checked through the source of its name, else through the first unit that includes it. Units are those of
compile_commands.json (the argument) that lie in src, bench or tests.
"""

import json
import os
import sys

FOLDERS = ("src/", "bench/", "tests/")


def unit_for(path, units, root):
    if path in units:
        return path
    stem, suffix = os.path.splitext(path)
    if suffix != ".h":
        return None
    if stem + ".cpp" in units:
        return stem + ".cpp"
    include = f'#include "{path.removeprefix("src/")}"'
    for unit in sorted(units):
        with open(os.path.join(root, unit), encoding="utf-8") as file:
            if include in file.read():
                return unit
    return None


def main():
    root = os.getcwd()
    with open(sys.argv[1], encoding="utf-8") as file:
        units = {os.path.relpath(entry["file"], root) for entry in json.load(file)}
    units = {unit for unit in units if unit.startswith(FOLDERS)}
    paths = [os.fsdecode(path) for path in sys.stdin.buffer.read().split(b"\0") if path]
    chosen = {unit_for(path, units, root) for path in paths} - {None}
    sys.stdout.write("".join(unit + "\0" for unit in sorted(chosen)))


if __name__ == "__main__":
    main()
