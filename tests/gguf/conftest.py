"""Shares fixtures and model shapes with the parity suite."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "parity"))
from snug_programs import tool  # noqa: E402, F401
