"""What the parity suites share."""

import signal

from snug_programs import tool  # noqa: F401

# A shell that starts the suites in the background, or nohup, lets them ignore signals, and what they start with them.
for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
