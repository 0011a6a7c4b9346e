"""A small tree to hold up to a gate, and the binaries of build/venv."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Tree:
    """Files under a temporary folder; gate() runs one of scripts/check_*.py on them."""

    def __init__(self, folder):
        self.folder = folder

    def write(self, path, text):
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def gate(self, name):
        """(passed, output)"""
        run = subprocess.run([sys.executable, ROOT / "scripts" / f"check_{name}.py", "--root", self.folder],
                             capture_output=True, text=True, check=False)
        assert run.returncode in (0, 1), run.stderr
        return run.returncode == 0, run.stdout + run.stderr


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


@pytest.fixture
def wheel_binary():
    """The path of a program that a wheel of scripts/requirements.txt brought."""

    def find(name):
        found = list(pathlib.Path(sys.prefix).glob(f"lib/python3*/site-packages/{name.replace('-', '_')}/data/bin/{name}"))
        assert found, f"{name} is not in {sys.prefix}; ./dev lint installs it"
        return found[0]

    return find
