"""What the parity suites share."""

from snug_programs import tool  # noqa: F401
