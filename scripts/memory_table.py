#!/usr/bin/env python3
"""The memory table of bench/memory_rows.json by `snug plan`, as Markdown: ./dev memory calls this.

No model is read and nothing is run: plans are exact for the machine that plans.
"""

import argparse
import datetime
import json
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[1]
GIB = 1 << 30


def plan(snug, row):
    words = [f"model={row['model']}", f"max_length={row['length']}", f"per_device_train_batch_size={row['rows']}",
             "gradient_accumulation_steps=1", "threads=2", *row["settings"]]
    run = subprocess.run([snug, "plan", "--json", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                         check=False)
    if run.returncode not in (0, 3):  # 3: more than this machine has
        raise SystemExit(run.stderr)
    return json.loads(run.stdout), " ".join(words)


def main():
    parser = argparse.ArgumentParser(prog="./dev memory", description=__doc__)
    parser.add_argument("--snug", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--out", metavar="NAME", help="write docs/results/NAME.md; else only print")
    args = parser.parse_args()
    with open(ROOT / "bench" / "memory_rows.json", encoding="utf-8") as file:
        rows = json.load(file)["rows"]
    lines = [f"# Planned memory, {datetime.date.today().isoformat()}", "",
             "Arena, without context: what `snug plan device=cpu` reserves for weights, gradients, optimizer, activations and",
             "every kernel's scratch, training and evaluation. The process itself takes about 20 MiB more. Adapters are bf16",
             "with fp32 masters. Command: `./dev memory`; a row's own: `snug plan` with the settings named.", "",
             "| recipe | arena GiB | bound GiB | of it scratch MiB | recomputed FLOPs, of one forward | published |",
             "|---|---:|---:|---:|---:|---|"]
    commands = []
    for row in rows:
        report, words = plan(args.snug, row)
        bound = f"{row['at_most'] / GIB:.2f}" if "at_most" in row else ""
        recomputed = report.get("recompute", {}).get("forwards")
        lines.append(f"| {row['name']} | {report['arena_bytes'] / GIB:.2f} | {bound} | "
                     f"{report['scratch_bytes'] / (1 << 20):.0f} | "
                     f"{'' if recomputed is None else f'{recomputed:.2f}'} | {row.get('published', '')} |")
        commands.append(f"- {row['name']}: `snug plan {words}`")
    text = "\n".join([*lines, "", *commands]) + "\n"
    print(text)
    if args.out:
        (ROOT / "docs" / "results" / f"{args.out}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
