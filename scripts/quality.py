#!/usr/bin/env python3
"""Training quality of optimizers and of a quantised base: ./dev quality calls this.

Two tasks, three seeds: the demo's (answers that can be checked) and a language model of this repository's own pages.
Every variant starts from the same weights and sees the same rows in the same order as the plain run (AdamW in fp32
state; for QLoRA: LoRA on the unquantised base). Only SGD, which needs more updates, takes the text in smaller batches:
as many epochs, eight times the updates. A figure is the mean evaluation loss over seeds. The target is to be
at most 3 % above the plain run's loss, or, where that is next to nothing (the demo's), above it by at most 3 % of what
the plain run gained. The table goes to docs/results/NAME.md.
"""

import argparse
import datetime
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
LIMIT = 0.03
NOTHING = 0.1  # of the first loss
PIECE = 240  # bytes of a text row
DEMO_RATE = 3e-3
TEXT_RATE = 3e-3
TEXT_BATCH = 16

# name: (settings, factor on the plain run's learning rate)
OPTIMIZERS = {
    "adamw_torch": ([], 1.0),
    "adamw_bnb_8bit": (["optim=adamw_bnb_8bit"], 1.0),
    "adamw_8bit": (["optim=adamw_8bit"], 1.0),
    "adafactor": (["optim=adafactor"], 1.0),
    "lion_32bit": (["optim=lion_32bit"], 0.2),
    "lion_8bit": (["optim=lion_8bit"], 0.2),
    "sgd": (["optim=sgd", "optim_args=momentum=0.9"], 33.0),
}
TEXT_BATCHES = {"sgd": 2}
ADAPTERS = {
    "lora": ["finetuning_type=lora"],
    "qlora nf4": ["finetuning_type=lora", "load_in_4bit=true"],
    "qlora nf4 double": ["finetuning_type=lora", "load_in_4bit=true", "bnb_4bit_use_double_quant=true"],
    "qlora int8": ["finetuning_type=lora", "load_in_8bit=true"],
}


def arguments():
    parser = argparse.ArgumentParser(prog="./dev quality", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--snug", required=True, type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", metavar="NAME", help="write docs/results/NAME.md; else only print")
    return parser.parse_args()


def call(snug, *words):
    run = subprocess.run([str(snug), *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                         check=False)
    if run.returncode not in (0, 2):  # 2: the demo's own bar, which is not this table's
        sys.exit(f"quality: status {run.returncode} from: snug {' '.join(map(str, words))}\n{run.stderr[-2000:]}")


def first_and_last_loss(run):
    """Of the first training step and of the last evaluation."""
    with open(run / "metrics.jsonl", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return rows[0]["loss"], [row["eval_loss"] for row in rows if "eval_loss" in row][-1]


def write_text_rows(folder):
    """The repository's pages in pieces; every eighth piece is held out."""
    pages = sorted([ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md",
                    *(ROOT / "docs" / "decisions").glob("*.md"), ROOT / "docs" / "defaults.md"])
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    rows = [text[i:i + PIECE] for i in range(0, len(text), PIECE)]
    for name, chosen in [("train", [r for i, r in enumerate(rows) if i % 8]), ("eval", rows[::8])]:
        with open(folder / f"text-{name}.jsonl", "w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": row}) + "\n" for row in chosen)


def text_run(snug, folder, base, name, seed, settings, rate, batch=TEXT_BATCH):
    output = folder / name
    call(snug, "train", f"model={base}", f"data={folder / 'text-train.jsonl'}", f"eval_file={folder / 'text-eval.jsonl'}",
         f"output_dir={output}", f"seed={seed}", "num_train_epochs=12", f"global_batch_size={batch}", f"learning_rate={rate}",
         "save_strategy=no", "logging_steps=1000", *settings)
    return output


def losses_of_seed(snug, folder, seed):
    """Task and variant to first and evaluation loss."""
    losses = {}
    for name, (settings, factor) in OPTIMIZERS.items():
        demo = folder / f"demo-{name}"
        call(snug, "demo", f"output_dir={demo}", f"seed={seed}", f"learning_rate={DEMO_RATE * factor}", *settings)
        losses["demo", name] = first_and_last_loss(demo / "trained")
    model = folder / "demo-adamw_torch" / "model"
    for name, (settings, factor) in OPTIMIZERS.items():
        run = text_run(snug, folder, model, f"text-{name}", seed, settings, TEXT_RATE * factor,
                       TEXT_BATCHES.get(name, TEXT_BATCH))
        losses["text", name] = first_and_last_loss(run)
    base = folder / "demo-adamw_torch" / "trained"
    for name, settings in ADAPTERS.items():
        run = text_run(snug, folder, base, f"text-{name.replace(' ', '-')}", seed, settings, TEXT_RATE)
        losses["text from a trained base", name] = first_and_last_loss(run)
    return losses


def table(results):
    lines = ["| task | variant | mean evaluation loss | above the plain run | of | within 3 % |", "|---|---|---:|---:|---|---|"]
    plain = {}
    for (task, name), losses in results.items():
        first, last = (statistics.mean(column) for column in zip(*losses))
        start, best = plain.setdefault(task, (first, last))  # the first variant of a task is its plain run
        small = best < NOTHING * start
        above = (last - best) / (start - best if small else best)
        lines.append(f"| {task} | {name} | {last:.4f} | {100 * above:.1f} % | {'its gain' if small else 'its loss'} | "
                     f"{'yes' if above <= LIMIT else 'no'} |")
    return "\n".join(lines) + "\n"


def main():
    args = arguments()
    results = {}
    for seed in range(1, args.seeds + 1):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="snug-quality-"))
        try:
            write_text_rows(folder)
            for key, loss in losses_of_seed(args.snug, folder, seed).items():
                results.setdefault(key, []).append(loss)
        finally:
            shutil.rmtree(folder)
        print(f"seed {seed} done", file=sys.stderr)
    text = table(results)
    print(text)
    if args.out:
        (ROOT / "docs" / "results" / f"{args.out}.md").write_text(
            f"# Training quality, {datetime.date.today().isoformat()}\n\nCommand: `./dev quality --seeds {args.seeds} --out "
            f"{args.out}`. {args.seeds} seeds; what each variant is: scripts/quality.py.\n\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main()
