"""The suite of a card: kernels, techniques, loss curves, memory, speed. Standard library only; torch is the peer's."""

import argparse
import json
import os
import pathlib
import random
import re
import shutil
import site
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
SNUG = HERE / "snug"

# Name, settings that differ from plain training, class of equality against it.
TECHNIQUES = [
    ("plain", []),
    ("recompute", ["activation_checkpointing=true"]),
    ("accumulation", ["per_device_train_batch_size=1"]),
    ("stochastic rounding", ["master_weights=none"]),
    ("8-bit AdamW", ["optim=adamw_8bit"]),
    ("Adafactor", ["optim=adafactor"]),
    ("Lion", ["optim=lion_32bit"]),
    ("SGD", ["optim=sgd", "optim_args=momentum=0.9"]),
    ("update in backward", ["update_in_backward=true", "max_grad_norm=0"]),
    ("loss in tiles", ["loss_chunk_bytes=64KiB"]),
    ("MLP in tiles", ["mlp_chunks=4", "activation_checkpointing=true"]),
    ("packing", ["packing=true"]),
    ("LoRA", ["finetuning_type=lora"]),
    ("DoRA", ["finetuning_type=lora", "use_dora=true"]),
    ("QLoRA", ["finetuning_type=lora", "load_in_4bit=true"]),
    ("QLoRA, double", ["finetuning_type=lora", "load_in_4bit=true", "bnb_4bit_use_double_quant=true"]),
    ("8-bit base", ["finetuning_type=lora", "load_in_8bit=true"]),
    ("fp16", ["fp16=true"]),
    ("fp32", ["bf16=false"]),
    ("CUDA graphs", ["cuda_graphs=true"]),
]

# Shape, rows of a step, row length, settings; the figures to beat are tokens/s of LLMQ on one H100 at the same work:
# 524,288 tokens a step. Four steps of each, the first not counted.
FULL = ["optim=adamw_torch", "master_weights=none", "max_length=1024"]
LORA = ["finetuning_type=lora", "lora_r=16", "max_length=2048"]
BENCHMARK = [
    ("qwen2.5-0.5b", 512, 1024, "full", FULL, 149_000),
    ("qwen2.5-1.5b", 512, 1024, "full", FULL, 58_700),
    ("qwen2.5-3b", 512, 1024, "full", FULL, 31_000),
    ("qwen2.5-7b", 512, 1024, "full", FULL, 13_900),
    ("qwen2.5-14b", 512, 1024, "full", FULL, 6_300),
    ("qwen2.5-7b", 16, 2048, "lora", LORA, None),
    ("llama-3.1-8b", 16, 2048, "lora", LORA, None),
    ("qwen2.5-7b", 16, 2048, "qlora", [*LORA, "load_in_4bit=true"], None),
    ("llama-3.1-8b", 16, 2048, "qlora", [*LORA, "load_in_4bit=true"], None),
]
STEPS = 4


def environment():
    """Where the libraries of this folder and cuBLAS are."""
    folders = [str(HERE / "lib")]
    for root in {*site.getsitepackages(), site.getusersitepackages()}:
        folders += [str(path) for path in pathlib.Path(root).glob("nvidia/*/lib")]
    env = dict(os.environ)
    env["LD_LIBRARY_PATH"] = ":".join([*folders, env.get("LD_LIBRARY_PATH", "")]).rstrip(":")
    return env


ENV = environment()


def run(command, **options):
    return subprocess.run([str(part) for part in command], env=ENV, capture_output=True, text=True, **options)


def card():
    query = "name,driver_version,memory.total,clocks.sm,clocks.mem,power.limit"
    values = run(["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"]).stdout.splitlines()[0]
    return dict(zip(query.split(","), (value.strip() for value in values.split(","))))


class MemoryWatch:
    """The most memory of the card in use by nvidia-smi's counter, beyond what was in use before."""

    def __enter__(self):
        self.before = self.peak = self.used()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()

    def watch(self):
        while not self.stop.wait(0.2):
            self.peak = max(self.peak, self.used())

    @staticmethod
    def used():
        return int(run(["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]).stdout.split()[0])

    def mib(self):
        return self.peak - self.before


def kernels():
    """The conformance suite of all ops, on the card."""
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.json"
        result = run([HERE / "cuda_test", f"--gtest_output=json:{report}"])
        suite = json.loads(report.read_text()) if report.exists() else {}
    tests = [(f"{group['name']}.{test['name']}", test) for group in suite.get("testsuites", [])
             for test in group.get("testsuite", [])]
    failed = [name for name, test in tests if "failures" in test]
    skipped = [name for name, test in tests if test.get("result") == "SKIPPED"]
    return {"tests": len(tests), "skipped": len(skipped), "failed": failed, "status": result.returncode, "tail": result.stdout[-4000:]}


def speeds():
    """Time, bytes and operations a second of each kernel, at operands several times the cache."""
    result = run([HERE / "card_speed"], timeout=1800)
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")] or [
        {"error": (result.stdout + result.stderr)[-600:]}]


def rows(path, count, length, vocabulary):
    """Random tokens: rows of `input_ids` and `labels`."""
    draw = random.Random(1)
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(count):
            ids = [draw.randrange(100, vocabulary) for _ in range(length)]
            file.write(json.dumps({"input_ids": ids, "labels": ids}) + "\n")


def train(folder, device, shape, data, settings, steps):
    """One run: what it printed, its metrics, its status."""
    output = pathlib.Path(folder) / "run"
    shutil.rmtree(output, ignore_errors=True)
    command = [SNUG, "train", f"model=shape:{shape}", "init=random", f"data={data}", f"device={device}",
               f"output_dir={output}", f"max_steps={steps}", "save_strategy=no", "logging_steps=1", *settings]
    start = time.time()
    result = run(command)
    metrics = output / "metrics.jsonl"
    lines = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.exists() else []
    return {"status": result.returncode, "seconds": time.time() - start, "metrics": lines,
            "losses": [line["loss"] for line in lines if "loss" in line],
            "text": (result.stdout + result.stderr)[-4000:]}


def techniques():
    """Each technique on the card against the same on the CPU: loss by loss."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        data = pathlib.Path(folder) / "rows.jsonl"
        rows(data, 32, 96, 40_000)
        for name, settings in TECHNIQUES:
            both = [*settings, "global_batch_size=4", "max_length=96"]
            on_card = train(folder, "cuda", "smol135m", data, both, 6)
            graphs = [setting for setting in both if not setting.startswith("cuda_graphs")]
            on_cpu = train(folder, "cpu", "smol135m", data, graphs, 6)
            pairs = list(zip(on_card["losses"], on_cpu["losses"]))
            worst = max((abs(a - b) / max(abs(b), 1e-9) for a, b in pairs), default=None)
            results.append({"name": name, "settings": settings, "steps": len(pairs), "worst_relative": worst,
                            "ok": len(pairs) == 6 and worst is not None and worst < 0.02,
                            "card": on_card, "cpu_losses": on_cpu["losses"]})
    return results


def sanitizer():
    """compute-sanitizer over a few steps, where the machine has it."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        return {"skipped": "compute-sanitizer is not on this machine"}
    with tempfile.TemporaryDirectory() as folder:
        data = pathlib.Path(folder) / "rows.jsonl"
        rows(data, 4, 64, 40_000)
        command = [tool, "--error-exitcode", "9", SNUG, "train", "model=shape:smol135m", "init=random",
                   f"data={data}", "device=cuda", f"output_dir={folder}/run", "max_steps=1", "save_strategy=no",
                   "global_batch_size=1", "max_length=64"]
        result = run(command, timeout=1800)
    return {"status": result.returncode, "tail": (result.stdout + result.stderr)[-2000:]}


def bench(shape, batch, length, kind, settings):
    """snug's tokens a second and memory, and the plan's."""
    with tempfile.TemporaryDirectory() as folder:
        data = pathlib.Path(folder) / "rows.jsonl"
        rows(data, batch, length, 120_000)
        every = [*settings, f"global_batch_size={batch}"]
        plan = run([SNUG, "plan", f"model=shape:{shape}", f"data={data}", "device=cuda", "--json", *every])
        with MemoryWatch() as memory:
            played = train(folder, "cuda", shape, data, [*every, "cuda_graphs=true"], STEPS)
    speeds = [line["tokens_per_second"] for line in played["metrics"] if "tokens_per_second" in line][1:]
    planned = json.loads(plan.stdout) if plan.returncode in (0, 3) and plan.stdout else {}
    return {"shape": shape, "kind": kind, "rows": batch, "length": length, "status": played["status"],
            "tokens_per_second": sorted(speeds)[len(speeds) // 2] if speeds else None,
            "planned_mib": planned.get("needed_bytes", 0) / 2**20, "measured_mib": memory.mib(),
            "text": played["text"] if not speeds else ""}


def peer(shape, batch, length, kind):
    """torch, transformers and peft at the same work."""
    with MemoryWatch() as memory:
        result = run([sys.executable, HERE / "peer.py", shape, kind, batch, length], timeout=3600)
    found = re.search(r"^\{.*\}$", result.stdout, re.MULTILINE)
    if not found:
        return {"error": (result.stdout + result.stderr)[-600:]}
    return {**json.loads(found.group(0)), "measured_mib": memory.mib()}


def table(results):
    """The results as Markdown: the parts that there are."""
    found = results["card"]
    lines = [f"# snug on {found['name']}", "",
             f"Driver {found['driver_version']}, {found['memory.total']} MiB, commit {results['commit']}, "
             f"{results['date']}.", ""]
    if "kernels" in results:
        suite = results["kernels"]
        lines += [f"Kernels: {suite['tests']} tests, {suite['skipped']} skipped, {len(suite['failed'])} failed.", ""]
        lines += [f"- {name}" for name in suite["failed"]]
    if "techniques" in results:
        lines += ["| technique | steps | card against CPU, worst loss | ok |", "|---|---|---|---|"]
        for row in results["techniques"]:
            worst = "-" if row["worst_relative"] is None else f"{row['worst_relative']:.2e}"
            lines.append(f"| {row['name']} | {row['steps']} | {worst} | {'yes' if row['ok'] else 'no'} |")
    lines += speed_lines(results.get("speeds", []))
    if "sanitizer" in results:
        lines += ["", f"compute-sanitizer: {results['sanitizer'].get('skipped') or results['sanitizer']['status']}."]
    return "\n".join(lines + benchmark_lines(results.get("benchmark", []))) + "\n"


def speed_lines(speeds_found):
    if not speeds_found:
        return []
    if "error" in speeds_found[0]:
        return ["", "Kernels were not timed: " + speeds_found[0]["error"]]
    lines = ["", "| kernel | operands of | us | GB/s | TFLOP/s | share of the card's peak |", "|---|---|---|---|---|---|"]
    for row in speeds_found:
        share = f"{row['share_of_peak']:.0%}" if "share_of_peak" in row else "-"
        lines.append(f"| {row['kernel']} | {row['name']} | {row['microseconds']:.1f} | "
                     f"{row['gigabytes_per_second']:.0f} | {row['teraflops']:.1f} | {share} |")
    return lines


def benchmark_lines(found):
    if not found:
        return []
    lines = ["", "| model | work | tok/s | LLMQ on H100 | torch tok/s | planned MiB | measured MiB | torch MiB |",
             "|---|---|---|---|---|---|---|---|"]
    for row in found:
        other = row["peer"]
        lines.append(
            f"| {row['shape']} | {row['kind']}, {row['rows']} x {row['length']} | {row['tokens_per_second']} | "
            f"{row['to_beat'] or '-'} | {other.get('tokens_per_second', '-')} | {row['planned_mib']:.0f} | "
            f"{row['measured_mib']} | {other.get('measured_mib', '-')} |")
    return lines


PARTS = ("kernels", "speeds", "techniques", "sanitizer", "benchmark")


def benchmark(results, save):
    """Row by row, each written as it comes; rows that are there already are left."""
    done = results.setdefault("benchmark", [])
    for shape, batch, length, kind, settings, to_beat in BENCHMARK:
        if any((row["shape"], row["kind"]) == (shape, kind) for row in done):
            continue
        row = bench(shape, batch, length, kind, settings)
        done.append({**row, "to_beat": to_beat, "peer": peer(shape, batch, length, kind)})
        save()
        print(f"{shape} {kind}: {row['tokens_per_second']} tok/s", flush=True)


def failures(results):
    """What of the parts that ran is not as it should be."""
    suite = results.get("kernels", {})
    failed = list(suite.get("failed", []))
    if suite.get("status"):
        failed.append("cuda_test")
    return failed + [row["name"] for row in results.get("techniques", []) if not row["ok"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default=",".join(PARTS), metavar="LIST",
                        help=f"some of {','.join(PARTS)}; results of others are kept from earlier runs")
    wanted = parser.parse_args().parts.split(",")
    if unknown := set(wanted) - set(PARTS):
        parser.error(f"--parts: {', '.join(sorted(unknown))} is not among {', '.join(PARTS)}")
    file = HERE / "results.json"
    this = {"card": card(), "commit": (HERE / "COMMIT").read_text().strip()}
    before = json.loads(file.read_text()) if file.exists() else {}
    same = before.get("commit") == this["commit"]
    results = {**(before if same else {}), **this, "date": time.strftime("%Y-%m-%d")}

    def save():
        file.write_text(json.dumps(results, indent=1))
        (HERE / "results.md").write_text(table(results))

    for part in wanted:
        if part == "benchmark":
            benchmark(results, save)
        else:
            results[part] = {"kernels": kernels, "speeds": speeds, "techniques": techniques,
                             "sanitizer": sanitizer}[part]()
        save()
        print(f"{part}: done", flush=True)
    failed = failures(results)
    print(HERE / "results.md", *failed, sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
