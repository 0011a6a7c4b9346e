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
INTRODUCTION = """\
Arena, without context: what `snug plan device=cpu` reserves for weights, gradients, optimizer, activations and every
kernel's scratch, training and evaluation. Target: an x86-64 CPU with AMX, 2 threads. Library workspaces: none, as
matrix products' packed panels are in the scratch. The process itself takes about 20 MiB more. Adapters are on all
linear layers but the head, in bf16 with fp32 masters. Segments (K): `activation_checkpointing=segments:K` keeps the
inputs of K stretches of blocks; in backward it computes first the inputs of a stretch's blocks and then each block
again; `activation_checkpointing=auto` goes as far where device_memory asks for it. Command: `./dev memory`; a row's
own: `snug plan` with the settings named. What is asserted: tests/cli/memory_rows_test.cpp."""
LAYERS = "What one layer of many keeps for backward, its output (the next layer's input) included:"


def plan(snug, row):
    words = [f"model={row['model']}", f"max_length={row['length']}", f"per_device_train_batch_size={row['rows']}",
             "gradient_accumulation_steps=1", "instruction_set=amx", "threads=2", *row["settings"]]
    run = subprocess.run([snug, "plan", "--json", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                         check=False)
    if run.returncode not in (0, 3):  # 3: more than this machine has
        raise SystemExit(run.stderr)
    return json.loads(run.stdout), " ".join(words)


def layer_bytes(report, layer):
    """What one layer keeps for backward: its forward values where most is alive."""
    return sum(value["bytes"] for value in report["alive"] if value["role"] == "activation" and value["layer"] == layer)


def recomputed(report):
    forwards = report.get("recompute", {}).get("forwards")
    return "" if forwards is None else f"{forwards:.2f}"


def tables(snug, rows):
    """The table of whole steps, that of one layer's values, and each row's command."""
    steps = ["| recipe | arena GiB | bound GiB | of it held all the run | most scratch MiB | recomputed FLOPs, of one "
             "forward | published |", "|---|---:|---:|---:|---:|---:|---|"]
    layers = ["| one layer's saved activations | MiB | recomputed FLOPs, of one forward | published |", "|---|---:|---:|---|"]
    commands = []
    for row in rows:
        report, words = plan(snug, row)
        commands.append(f"- {row['name']}: `snug plan {words}`")
        published = row.get("published", "")
        if "layer" in row:
            layers.append(f"| {row['name']} | {layer_bytes(report, row['layer']) / (1 << 20):.0f} | {recomputed(report)} | "
                          f"{published} |")
            continue
        bound = f"{row['at_most'] / GIB:.2f}" if "at_most" in row else ""
        steps.append(f"| {row['name']} | {report['arena_bytes'] / GIB:.2f} | {bound} | "
                     f"{report['run_bytes'] / GIB:.2f} | {report['scratch_bytes'] / (1 << 20):.0f} | "
                     f"{recomputed(report)} | {published} |")
    return steps, layers, commands


def main():
    parser = argparse.ArgumentParser(prog="./dev memory", description=__doc__)
    parser.add_argument("--snug", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--out", metavar="NAME", help="write docs/results/NAME.md; else only print")
    args = parser.parse_args()
    with open(ROOT / "bench" / "memory_rows.json", encoding="utf-8") as file:
        rows = json.load(file)["rows"]
    steps, layers, commands = tables(args.snug, rows)
    text = "\n".join([f"# Planned memory, {datetime.date.today().isoformat()}", "", INTRODUCTION, "", *steps, "", LAYERS, "",
                      *layers, "", *commands]) + "\n"
    print(text)
    if args.out:
        (ROOT / "docs" / "results" / f"{args.out}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
