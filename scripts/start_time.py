#!/usr/bin/env python3
"""Seconds from starting `snug train` to its first step, on a model of 0.5 billion parameters: ./dev start calls this.

snug itself writes the model (random weights, bf16); the first run after that is not counted, so that its file lies in
the page cache. Populating the arena is apart: it is the kernel's time to hand out zeroed pages. The table goes to
docs/results/NAME.md.
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
SHAPE = "qwen2.5-0.5b"
LENGTH = 64
LIMIT = 3.0
START = re.compile(r"start: .* populated in ([\d.]+) s, filled in ([\d.]+) s")


def arguments():
    parser = argparse.ArgumentParser(prog="./dev start", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--snug", required=True, type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", metavar="NAME", help="write docs/results/NAME.md; else only print")
    return parser.parse_args()


def train(snug, folder, model, *words):
    """Seconds to the line that says that training starts, of them populating, and filling."""
    command = [str(snug), "train", f"model={model}", f"data={folder / 'rows.jsonl'}", "max_steps=1",
               "global_batch_size=1", f"max_length={LENGTH}", "save_strategy=no", *words]
    begin = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
        found, said = None, []
        for line in run.stderr:
            said.append(line)
            match = START.match(line)
            if match:
                found = (time.monotonic() - begin, *map(float, match.groups()))
    if run.returncode != 0 or found is None:
        sys.exit(f"start: status {run.returncode} from: {' '.join(command)}\n{''.join(said)[-2000:]}")
    return found


def measure(snug, folder, rounds):
    ids = [i * 7919 % 50000 for i in range(LENGTH)]
    (folder / "rows.jsonl").write_text(json.dumps({"input_ids": ids, "labels": ids}) + "\n", encoding="utf-8")
    train(snug, folder, f"shape:{SHAPE}", "init=random", f"output_dir={folder / 'model'}")
    runs = [train(snug, folder, folder / "model", f"output_dir={folder / f'run-{i}'}") for i in range(rounds + 1)]
    return runs[1:]


def table(runs):
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8")
                  if line.startswith("model name")), "unknown")
    totals = [total - populated for total, populated, _ in runs]
    middle = statistics.median(totals)
    rows = [f"| {i + 1} | {total - populated:.2f} | {filled:.2f} | {populated:.2f} |"
            for i, (total, populated, filled) in enumerate(runs)]
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], stdout=subprocess.PIPE, text=True,
                            check=False).stdout.strip()
    return "\n".join([
        f"# Start to first step, {datetime.date.today().isoformat()}", "",
        f"{model}, {len(os.sched_getaffinity(0))} threads, commit {commit}, load before {os.getloadavg()[0]:.2f}. A folder "
        f"of {SHAPE}'s shape in bf16, in the page cache; full training with fp32 master, rows of {LENGTH} tokens.",
        f"Command: `./dev start`. Median {middle:.2f} s, at most {LIMIT:.0f} wanted: "
        f"{'met' if middle <= LIMIT else 'not met'}.", "",
        "| run | start to first step s | of it filling the arena s | populating, apart s |", "|---:|---:|---:|---:|", *rows, ""])


def main():
    args = arguments()
    with tempfile.TemporaryDirectory(prefix="snug-start-") as folder:
        text = table(measure(args.snug, pathlib.Path(folder), args.rounds))
    print(text)
    if args.out:
        (ROOT / "docs" / "results" / f"{args.out}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
