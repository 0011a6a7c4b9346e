#!/usr/bin/env python3
"""40 random setups of snug, each trained within a device_memory while its process is watched: ./dev process-memory calls this.

Where a memory control group can be made, each run is inside one whose limits for memory and for memory with swap are
device_memory.
"""

import argparse
import datetime
import pathlib
import platform
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "parity"))

from process_setups import MIB, Group, Setup, random_setup, run_setup  # noqa: E402

FIXED = [
    Setup(layers=32, hidden=192, intermediate=512, heads=6, vocabulary=1024, buckets=8, rows=400, longest=200,
          settings=("finetuning_type=lora", "load_in_4bit=true"), room=0.5),
    Setup(layers=80, hidden=64, intermediate=128, vocabulary=256, buckets=8, rows=400, longest=200, evaluate=True,
          resume=True, room=1.0),
]


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("snug", type=pathlib.Path)
    parser.add_argument("--setups", type=int, default=40)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    trial = Group.make(64 * MIB)
    if trial:
        trial.close()
    grouped = "each inside a control group of that size" if trial else "no memory control group can be made here"
    lines, failed = [], 0
    setups = [*FIXED, *(random_setup(seed) for seed in range(max(0, options.setups - len(FIXED))))]
    for index, setup in enumerate(setups[options.first:], options.first):
        with tempfile.TemporaryDirectory() as folder:
            budget, planned, runs = run_setup(options.snug, setup, pathlib.Path(folder), in_group=True)
        good = all(run.status == 0 and run.peak <= budget and run.kills == 0 for run in runs)
        failed += not good
        beside = max(run.peak for run in runs) - planned["arena_bytes"]
        lines.append(f"| {index} | {setup.text()} | {budget / MIB:.1f} | {planned['arena_bytes'] / MIB:.1f} | "
                     f"{planned['outside_bytes'] / MIB:.1f} | {planned['planning_bytes'] / MIB:.1f} | "
                     f"{' '.join(f'{run.peak / MIB:.1f}' for run in runs)} | {beside / MIB:.1f} | "
                     f"{'yes' if good else 'NO'} |")
        print(lines[-1], flush=True)
        if not good:
            for run in runs:
                print(f"  status {run.status}, kills {run.kills}\n{run.talk[-600:]}{run.out[-300:]}", flush=True)
    text = (f"# The process within device_memory\n\n{datetime.date.today()} · {processor()} · ./dev process-memory\n\n"
            f"{len(lines)} runs, {failed} beyond their memory; {grouped}. In MiB; sampled is RssAnon + RssShmem, helpers "
            "included, of the first run and of the resumed one.\n\n"
            "| # | setup | device_memory | arena | beside it, computed | planning, computed | sampled | beside the arena, "
            "sampled | within |\n|---|---|---|---|---|---|---|---|---|\n" + "\n".join(lines) + "\n")
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    print(f"{len(lines)} setups, {failed} beyond their memory; {grouped}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
