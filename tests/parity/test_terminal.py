"""A training on a real terminal, by a pty and a model of a screen: lines fit, what was logged stays, nothing stale."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pyte
import pytest
from wcwidth import wcswidth

ROWS = 120  # of the screen: nothing scrolls away
STEPS, LOGGED = 24, 8
STATUS = re.compile(r"\r\x1b\[J([^\r\n]+)\r(?!\n)")


class Terminal:
    """A screen and the process that writes to it. `narrow` wraps its lines anew, as VTE and others do."""

    def __init__(self, columns, command, term="xterm-256color"):
        self.master, slave = pty.openpty()
        self.raw = ""
        self.resize(columns)
        self.process = subprocess.Popen([str(word) for word in command], stdin=slave, stdout=slave, stderr=slave,
                                        env={**os.environ, "TERM": term}, start_new_session=True)
        os.close(slave)

    def resize(self, columns):
        self.screen = pyte.Screen(columns, ROWS)
        self.stream = pyte.ByteStream(self.screen)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))

    def show_some(self, seconds):
        """Shows what comes within some seconds; False when nothing did, None at the end."""
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:  # the other side is closed
            return None
        self.raw += data.decode(errors="ignore")
        self.stream.feed(data)
        return True

    def show_all(self):
        deadline = time.monotonic() + 120
        while self.show_some(1) is not None:
            assert time.monotonic() < deadline, self.raw
        assert self.process.wait() == 0, self.raw

    def narrow(self, columns):
        self.process.send_signal(signal.SIGSTOP)
        while self.show_some(0.2):
            pass
        lines = [line.rstrip() for line in self.screen.display]
        x, y = self.screen.cursor.x, self.screen.cursor.y
        self.resize(columns)
        row = 0
        for index, line in enumerate(lines):
            pieces = [line[at:at + columns] for at in range(0, max(1, len(line)), columns)]
            if index == y:
                cursor = (row + x // columns, x % columns)
            for piece in pieces[:max(0, ROWS - row)]:
                self.stream.feed(f"\x1b[{row + 1};1H{piece}".encode())
                row += 1
        self.stream.feed(f"\x1b[{cursor[0] + 1};{cursor[1] + 1}H".encode())
        self.process.send_signal(signal.SIGCONT)

    def lines(self):
        return [line.rstrip() for line in self.screen.display]

    def statuses(self):
        return STATUS.findall(self.raw)


@pytest.fixture(scope="module")
def command(tool, tmp_path_factory):
    folder = tmp_path_factory.mktemp("terminal")
    rows = [{"input_ids": [(7 * r + t) % 4000 + 3 for t in range(48)]} for r in range(32)]
    (folder / "rows.jsonl").write_text("".join(json.dumps({**r, "labels": r["input_ids"]}) + "\n" for r in rows))

    def words(name, steps=STEPS):
        return [tool("snug"), "train", "model=shape:tiny", "init=random", f"data={folder / 'rows.jsonl'}",
                f"output_dir={folder / name}", f"max_steps={steps}", f"logging_steps={LOGGED}", "save_strategy=no",
                "global_batch_size=4", "append_eos=false", "threads=1", "device_memory=1GiB"]

    return words


def logged_steps(lines):
    return [int(m[1]) for m in (re.match(r"step (\d+)/\d+ ·", line) for line in lines) if m]


@pytest.mark.parametrize("columns", [3, 40, 80, 200])
def test_lines_fit_and_logged_ones_stay(command, columns):
    terminal = Terminal(columns, command(f"run{columns}"))
    terminal.show_all()
    statuses = terminal.statuses()
    assert statuses and all(wcswidth(status) < columns for status in statuses), statuses
    if columns < 20:
        return  # words of one's own lines are wrapped by the terminal
    lines = terminal.lines()
    assert logged_steps(lines) == [LOGGED, 2 * LOGGED, STEPS]
    shown = "\n".join(lines)
    assert shown.count("tok/s") == shown.count("eta") == STEPS // LOGGED, "logged lines are whole, no status is left"
    # The screen is the talk without any status.
    talk = STATUS.sub("", terminal.raw).replace("\r\x1b[J", "").replace("\r\n", "\n")
    assert [line for line in lines if line.startswith("step ")] == [
        line for line in talk.split("\n") if line.startswith("step ")]


def test_a_narrower_terminal_shows_nothing_stale(command):
    terminal = Terminal(200, command("resized", steps=120))
    while len(terminal.statuses()) < 2:
        assert terminal.show_some(60), terminal.raw
    terminal.narrow(40)
    before = len(terminal.statuses())
    terminal.show_all()
    after = terminal.statuses()[before:]
    assert after and all(wcswidth(status) < 40 for status in after)
    assert any(wcswidth(status) > 40 for status in terminal.statuses()[:before])
    assert logged_steps(terminal.lines()) == list(range(LOGGED, 121, LOGGED))
    # A line from before is wrapped anywhere.
    assert "".join(terminal.lines()).count("eta") == 120 // LOGGED


def test_a_dumb_terminal_is_only_logged_to(command):
    terminal = Terminal(80, command("dumb"), term="dumb")
    terminal.show_all()
    assert "\x1b" not in terminal.raw and "\r" not in terminal.raw.replace("\r\n", "")
    assert logged_steps(terminal.raw.split("\r\n")) == [LOGGED, 2 * LOGGED, STEPS]
