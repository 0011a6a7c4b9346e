"""The files that the gates look at, and how a gate ends. Standard library only."""

import argparse
import os
import subprocess
import sys

SKIPPED_FOLDERS = {".git", ".cache", "build", "runs", "__pycache__"}


def repository_files(root, suffixes):
    """Paths under root, relative, sorted: what git tracks or would track; without git, every file."""
    listed = subprocess.run(["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "."],
                            capture_output=True, check=False)
    if listed.returncode == 0:
        paths = [os.fsdecode(path) for path in listed.stdout.split(b"\0") if path]
    else:
        paths = []
        for folder, folders, names in os.walk(root):
            folders[:] = [name for name in folders if name not in SKIPPED_FOLDERS]
            paths += [os.path.relpath(os.path.join(folder, name), root) for name in names]
    return sorted(path for path in set(paths)
                  if path.endswith(tuple(suffixes)) and os.path.isfile(os.path.join(root, path)))


def read_text(root, path):
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
        return file.read()


def gate_root(description):
    """The --root of the command line; by default the repository that this script is part of."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--root", default=os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return parser.parse_args().root


def finish(gate, problems):
    """Prints the problems and ends the process: status 1 if there is one."""
    for problem in problems:
        print(problem)
    print(f"{gate}: {'passed' if not problems else f'{len(problems)} problems'}")
    sys.exit(1 if problems else 0)
