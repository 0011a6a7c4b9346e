"""The programs that the Python suites drive: in SNUG_BUILD (default build/dev)."""

import os
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def tool():
    """tool(name): the path of a program of the build, such as "snug" or "tests/tokenize_tool"."""
    build = pathlib.Path(os.environ.get("SNUG_BUILD", ROOT / "build" / "dev"))

    def path(name):
        for place in (build / name, build / "tests" / name):
            if place.is_file():
                return place
        pytest.fail(f"{name} is not in {build}: build it, or set SNUG_BUILD to another build folder")

    return path
