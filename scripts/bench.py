#!/usr/bin/env python3
"""snug beside PyTorch on the same work, in one run on the same cores: ./dev bench calls this.

A row of bench/rows.json fixes shape, batch, length and accumulation. In each round every side runs once, one after
the other, so that a machine that slows down slows all of them; a figure is the median over rounds. Peak memory is
what each process reports of itself (VmHWM). The table and the raw figures go to docs/results/NAME.md and NAME.json.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
PEER = ROOT / "bench" / "peers" / "torch_train.py"
PRODUCTS = ROOT / "bench" / "peers" / "torch_products.py"
SIDES = ["eager", "compiled", "snug"]  # of a row that does not name its own
ISA_FLAGS = ["avx2", "avx512f", "avx512_bf16", "amx_bf16"]


def arguments():
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--snug", required=True, type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--triad", required=True, type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="a tiny shape, to try the harness")
    parser.add_argument("--row", action="append", default=[], metavar="NAME", help="only this row (may be repeated)")
    parser.add_argument("--side", action="append", default=[], choices=[*SIDES, "products"], help="only this side (may be repeated)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", metavar="NAME", help="write docs/results/NAME.md and NAME.json; else only print")
    parser.add_argument("--list", action="store_true", help="print the rows' names and stop")
    return parser.parse_args()


def chosen_rows(args):
    with open(ROOT / "bench" / "rows.json", encoding="utf-8") as file:
        table = json.load(file)
    rows = table["quick"] if args.quick else table["rows"]
    unknown = set(args.row) - {row["name"] for row in rows}
    if unknown:
        sys.exit(f"bench: no row {', '.join(sorted(unknown))}; there are {', '.join(row['name'] for row in rows)}")
    return [row for row in rows if not args.row or row["name"] in args.row]


def cores_for(threads):
    """That many CPUs this process may use, one a physical core where there are enough."""
    allowed, first, rest, seen = sorted(os.sched_getaffinity(0)), [], [], set()
    for cpu in allowed:
        siblings = pathlib.Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        core = siblings.read_text(encoding="ascii").strip() if siblings.exists() else str(cpu)
        (rest if core in seen else first).append(cpu)
        seen.add(core)
    return (first + rest)[:threads]


def command_of(side, row, args):
    work = ["--batch", row["batch"], "--seq", row["seq"], "--steps", row["steps"], "--accum", row.get("accum", 1)]
    if side == "snug":
        command = [args.snug, "bench", "step", "--json", "--shape", row["shape"], *work, *row.get("snug", [])]
    elif side == "products":
        command = [sys.executable, PRODUCTS, "--model", row["shape"], *work, "--threads", args.threads, *row["peer"]]
    else:
        command = [sys.executable, PEER, "--model", row["shape"], *work, "--threads", args.threads,
                   *(["--compile"] if side == "compiled" else []), *row.get("peer", [])]
    return [str(part) for part in command]


def run_side(command, cores):
    """The last line that a side prints on standard output, as JSON."""
    environment = dict(os.environ, OMP_NUM_THREADS=str(len(cores)))
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, check=False,
                         preexec_fn=lambda: os.sched_setaffinity(0, cores))
    if run.returncode != 0:
        sys.exit(f"bench: status {run.returncode} from: {' '.join(command)}\n{run.stderr[-3000:]}")
    return json.loads(run.stdout.strip().splitlines()[-1])


def measure(rows, args, cores):
    """Row name to side to the list of what its rounds reported."""
    results = {}
    for row in rows:
        sides = [side for side in row.get("sides", SIDES) if not args.side or side in args.side]
        results[row["name"]] = {side: [] for side in sides}
        for turn in range(args.rounds):
            for side in sides:
                report = run_side(command_of(side, row, args), cores)
                results[row["name"]][side].append(report)
                print(f"{row['name']} {side} {turn + 1}/{args.rounds}: {report['tokens_per_s']:.1f} tok/s, "
                      f"{report['peak_rss_mib']:.0f} MiB", file=sys.stderr)
    return results


def middle(reports, what):
    return statistics.median(report[what] for report in reports)


def step_over_products(report):
    """A step's time without attention over the time of its linear layers and head, weights read cold as in the step."""
    kinds = report["seconds_by_kind"]
    attention = sum(seconds for kind, seconds in kinds.items() if kind.startswith("attention"))
    products = sum(seconds for kind, seconds in kinds.items() if "linear" in kind or kind.startswith("head_loss"))
    return (report["step_s"] - attention) / products


def judge(row, check, results):
    """What a check compares and its figure, or None where a side was not run."""
    own = results[row["name"]].get("snug")
    if not own:
        return None
    if check["what"] == "step_over_products":
        return "step without attention / linear layers and head", statistics.median(map(step_over_products, own))
    if "against" not in check and "against_row" not in check:
        return check["what"], middle(own, check["what"])
    other = results.get(check.get("against_row", row["name"]), {}).get(check.get("against", "snug"))
    if not other:
        return None
    against = " ".join(filter(None, [check.get("against_row"), check.get("against")]))
    return f"{check['what']} / {against}", middle(own, check["what"]) / middle(other, check["what"])


def verdicts(row, results):
    """The row's checks that this run can judge: (sentence, figure, met)."""
    for check in row.get("checks", []):
        judged = judge(row, check, results)
        if judged is None:
            continue
        what, figure = judged
        limit = check.get("at_least", check.get("at_most"))
        met = figure >= limit if "at_least" in check else figure <= limit
        yield f"{what} {'≥' if 'at_least' in check else '≤'} {limit}", figure, met


def first_line(path, start):
    with open(path, encoding="utf-8") as file:
        return next((line.split(":", 1)[1].strip() for line in file if line.startswith(start)), "unknown")


def machine(args, cores):
    triad = subprocess.run([args.triad, str(args.threads)], stdout=subprocess.PIPE, text=True, check=True,
                           preexec_fn=lambda: os.sched_setaffinity(0, cores))
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], stdout=subprocess.PIPE, text=True,
                            check=False)
    flags = first_line("/proc/cpuinfo", "flags").split()
    return {
        "date": datetime.date.today().isoformat(), "cpu": first_line("/proc/cpuinfo", "model name"),
        "instruction_sets": [flag for flag in ISA_FLAGS if flag in flags], "threads": args.threads,
        "triad_gb_per_s": float(triad.stdout), "memory": first_line("/proc/meminfo", "MemTotal"),
        "kernel": platform.release(), "load_before": os.getloadavg()[0], "commit": commit.stdout.strip(),
    }


def markdown(rows, results, facts, command):
    text = [f"# snug beside PyTorch, {facts['date']}", "",
            f"{facts['cpu']} ({', '.join(facts['instruction_sets'])}), {facts['threads']} threads, "
            f"triad {facts['triad_gb_per_s']:.1f} GB/s, memory {facts['memory']}, Linux {facts['kernel']}, "
            f"commit {facts['commit']}, load before {facts['load_before']:.2f}.", "",
            f"Command: `{command}`. Medians over rounds; the spread is lowest to highest.", "",
            "| row | side | tokens/s | spread | step s | peak RSS MiB |", "|---|---|---:|---:|---:|---:|"]
    for row in rows:
        for side, reports in results[row["name"]].items():
            speeds = [report["tokens_per_s"] for report in reports]
            text.append(f"| {row['name']} | {side if side == 'snug' else reports[0]['peer'] + ' ' + side} | "
                        f"{statistics.median(speeds):.1f} | {min(speeds):.1f}–{max(speeds):.1f} | "
                        f"{middle(reports, 'step_s'):.3f} | {middle(reports, 'peak_rss_mib'):.0f} |")
    text += ["", "| row | target | measured | met |", "|---|---|---:|---|"]
    for row in rows:
        text += [f"| {row['name']} | {what} | {ratio:.2f} | {'yes' if met else 'no'} |"
                 for what, ratio, met in verdicts(row, results)]
    text += time_by_kind(rows, results)
    return "\n".join(text) + "\n"


def time_by_kind(rows, results):
    """snug's own split of a step's time by kind of op, where it reports one."""
    text = []
    for row in rows:
        reports = results[row["name"]].get("snug") or [{}]
        kinds = reports[-1].get("seconds_by_kind")
        if kinds:
            parts = [f"{kind} {seconds:.3f}" for kind, seconds in sorted(kinds.items(), key=lambda item: -item[1])]
            text += ["", f"{row['name']}, seconds of a snug step by kind: {' · '.join(parts)}."]
    return text


def main():
    args = arguments()
    rows = chosen_rows(args)
    if args.out and not re.fullmatch(r"[\w.-]+", args.out):
        sys.exit(f"bench: --out takes a name, not a path: '{args.out}'")
    if args.list:
        print("\n".join(row["name"] for row in rows))
        return
    cores = cores_for(args.threads)
    facts = machine(args, cores)
    if facts["load_before"] > 0.5:
        print(f"bench: the machine is busy (load {facts['load_before']:.2f}): timings will be wrong", file=sys.stderr)
    results = measure(rows, args, cores)
    hidden = {"--snug", "--triad"}
    shown = [part for before, part in zip([""] + sys.argv[1:], sys.argv[1:]) if not {before, part} & hidden]
    table = markdown(rows, results, facts, " ".join(["./dev bench", *shown]))
    print(table)
    if args.out:
        folder = ROOT / "docs" / "results"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{args.out}.md").write_text(table, encoding="utf-8")
        (folder / f"{args.out}.json").write_text(
            json.dumps({"machine": facts, "rows": rows, "results": results}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
