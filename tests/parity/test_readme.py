"""README's transcripts repeat: its commands are run, and what it shows of their output is what they print now.

Times and rates are not compared. Other figures may differ by 2 %: the kernels of another instruction set take other
scratch and round otherwise.
"""

import pathlib
import re
import shlex
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[-+]\d+)?")
VOLATILE = [re.compile(p) for p in (r"[\d.]+ tok/s", r"[\d.]+ tokens/s", r"eta [\d:?]+", r"process [^·]*", r"#\d+",
                                    r"in [\d.]+ s", r"^loss .*", r"outside +[\d.]+ \w+", r"free +[\d.]+ \w+",
                                    # What `auto` finds in the room that the process leaves it.
                                    r"activation_checkpointing [\d.]+ \w+",
                                    r"arena (?!48)[\d.]+ MiB planned, [\d.]+ MiB used", r"[\d.]+/[\d.]+ MiB")]
MOST_APART = 0.02


def transcripts():
    """(command, shown lines) for each `$` line of README's indented blocks, in order."""
    found, open_block = [], False
    for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("    $ "):
            found.append((line[6:], []))
            open_block = True
        elif line.startswith("    ") and open_block:
            found[-1][1].append(line[4:])
        elif line.strip():
            open_block = False
    return found


def same_line(shown, printed):
    for pattern in VOLATILE:
        shown, printed = pattern.sub("", shown), pattern.sub("", printed)
    if " ".join(NUMBER.sub("0", shown).split()) != " ".join(NUMBER.sub("0", printed).split()):
        return False
    pairs = zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=True)
    numbers = [(float(a.replace(",", "")), float(b.replace(",", ""))) for a, b in pairs]
    return all(abs(a - b) <= MOST_APART * max(abs(a), abs(b)) for a, b in numbers)


def check_shown(shown, printed):
    """Every shown line is printed, in that order; between two with no `...` between them nothing else is."""
    rest = [line for line in printed if line.strip()]
    gap = True
    for line in filter(str.strip, shown):
        if line.strip() == "...":
            gap = True
            continue
        at = next((i for i, other in enumerate(rest) if same_line(line, other)), None)
        assert at is not None, f"README shows {line!r}; printed is\n" + "\n".join(printed)
        assert gap or at == 0, f"README leaves out {rest[:at]!r} before {line!r}"
        rest, gap = rest[at + 1:], False


def run(tool, command, folder):
    words = [str(tool("snug")) if word == "snug" else word for word in shlex.split(command, comments=True)]
    finished = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.splitlines() + finished.stderr.splitlines()


def test_what_is_compared():
    assert same_line("fits: 7.88 of 8.00 GiB", "fits: 7.90 of 8.00 GiB")
    assert not same_line("fits: 7.88 of 8.00 GiB", "fits: 6.88 of 8.00 GiB")
    assert not same_line("fits: 7.88 of 8.00 GiB", "does not fit: 7.88 of 8.00 GiB")
    assert same_line("loss 2.5 · 46358 tok/s · eta 0:01", "loss 2.5 · 9 tok/s · eta 1:00:01")
    check_shown(["a 1", "...", "b"], ["a 1", "c", "b"])
    for shown in (["a 1", "b"], ["b", "...", "a 1"], ["a 1", "d"]):
        with pytest.raises(AssertionError):
            check_shown(shown, ["a 1", "c", "b"])


PLANS = [(command, shown) for command, shown in transcripts() if command.startswith("snug plan")]


@pytest.mark.parametrize("command, shown", PLANS, ids=[command for command, _ in PLANS])
def test_plans_are_printed_as_shown(tool, tmp_path, command, shown):
    check_shown(shown, run(tool, command, tmp_path))


def until_killed(tool, command, folder, checkpoint):
    """Runs a training until the checkpoint is whole, as when the machine is lost then."""
    words = [str(tool("snug")), *shlex.split(command, comments=True)[1:]]
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not (folder / checkpoint).exists():
            assert process.poll() is None, "it ended before its checkpoint"
            time.sleep(0.005)
        process.kill()


def test_the_training_goes_as_shown(tool, tmp_path):
    all_commands = transcripts()
    begin = next(i for i, (command, _) in enumerate(all_commands) if command.startswith("snug demo make"))
    for command, shown in all_commands[begin:]:
        stopped = re.search(r"# stopped after step (\d+)", command)
        if command.startswith("cat > "):
            (tmp_path / command.split()[2]).write_text("\n".join(shown) + "\n", encoding="utf-8")
        elif stopped:
            folder = re.search(r"output_dir=(\S+)", command)[1]
            until_killed(tool, command, tmp_path, f"{folder}/checkpoint-{stopped[1]}")
        elif command.startswith("snug "):
            check_shown(shown, run(tool, command, tmp_path))
        else:
            finished = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
            check_shown(shown, finished.stdout.splitlines())
