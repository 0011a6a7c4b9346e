"""Runs of snug whose process is watched: random setups, each with a device_memory drawn between what it needs least and most."""

import dataclasses
import json
import os
import pathlib
import random
import re
import subprocess
import tempfile
import threading
import time

MIB = 1 << 20
GROUPS = pathlib.Path("/sys/fs/cgroup/memory")  # version 1


@dataclasses.dataclass
class Setup:
    """A model, rows and settings."""
    layers: int = 2
    hidden: int = 64
    intermediate: int = 128
    heads: int = 4
    vocabulary: int = 256
    buckets: int = 2
    rows: int = 60
    longest: int = 64
    settings: tuple = ()
    evaluate: bool = False
    resume: bool = False
    room: float = 0.0  # of what plain training needs beyond the least

    def text(self):
        kind = " ".join(self.settings) or "full"
        more = "".join(word for word, on in ((" eval", self.evaluate), (" resume", self.resume)) if on)
        return (f"{self.layers} × {self.hidden}/{self.intermediate}, vocabulary {self.vocabulary}, {self.buckets} buckets ≤ "
                f"{self.longest}, {kind}{more}")


def random_setup(seed):
    draw = random.Random(seed)
    hidden = draw.choice([64, 128, 192])
    kinds = [(), ("finetuning_type=lora",), ("finetuning_type=lora", "load_in_4bit=true"),
             ("finetuning_type=lora", "load_in_8bit=true"), ("optim=adamw_8bit",), ("update_in_backward=true",
                                                                                    "max_grad_norm=0")]
    return Setup(layers=round(80 ** draw.random()), hidden=hidden, intermediate=draw.choice([2, 3]) * hidden,
                 heads=hidden // 32, vocabulary=draw.choice([256, 1024, 8192]), buckets=draw.randint(1, 8),
                 rows=draw.choice([60, 400]), longest=draw.choice([48, 200]), settings=draw.choice(kinds),
                 evaluate=draw.random() < 0.5, resume=draw.random() < 0.4, room=draw.random())


def write_model(setup, folder):
    folder.mkdir(parents=True)
    config = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": setup.hidden,
              "intermediate_size": setup.intermediate, "num_hidden_layers": setup.layers,
              "num_attention_heads": setup.heads, "num_key_value_heads": setup.heads // 2 or 1,
              "vocab_size": setup.vocabulary, "max_position_embeddings": 512, "tie_word_embeddings": False,
              "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu", "torch_dtype": "bfloat16",
              "bos_token_id": 1, "eos_token_id": 2}
    (folder / "config.json").write_text(json.dumps(config))
    draw = random.Random(7)
    rows = [[draw.randrange(3, setup.vocabulary) for _ in range(draw.randint(5, setup.longest))]
            for _ in range(setup.rows)]
    (folder / "rows.jsonl").write_text("".join(json.dumps({"input_ids": row}) + "\n" for row in rows))


def anonymous_bytes(pid):
    """RssAnon + RssShmem of a process and those it started; 0 when it is gone."""
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return 0
    own = sum(int(found) for found in re.findall(r"Rss(?:Anon|Shmem):\s+(\d+) kB", status)) * 1024
    return own + sum(anonymous_bytes(int(child)) for child in children)


class Group:
    """A memory control group with a limit for memory and for memory with swap; None where none can be made."""

    @staticmethod
    def make(limit):
        folder = GROUPS / f"snug-process-memory-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            return None
        group = Group(folder)
        try:
            (folder / "memory.limit_in_bytes").write_text(str(limit))
            (folder / "memory.memsw.limit_in_bytes").write_text(str(limit))
        except OSError:
            group.close()
            return None
        return group

    def __init__(self, folder):
        self.folder = folder

    def enter(self):
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def kills(self):
        found = re.search(r"oom_kill (\d+)", (self.folder / "memory.oom_control").read_text())
        return int(found[1]) if found else 0

    def close(self):
        self.folder.rmdir()


@dataclasses.dataclass
class Watched:
    status: int
    peak: int
    out: str
    talk: str
    kills: int = 0


def watch(command, limit=None):
    """Runs a command, in a control group of `limit` bytes where one is given and can be made."""
    group = Group.make(limit) if limit else None
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as talk:
        with subprocess.Popen([str(word) for word in command], stdout=out, stderr=talk,
                              preexec_fn=group.enter if group else None) as process:
            peak = 0
            done = threading.Event()
            while process.poll() is None:
                peak = max(peak, anonymous_bytes(process.pid))
                done.wait(0.002)
        out.seek(0)
        talk.seek(0)
        result = Watched(process.returncode, peak, out.read(), talk.read())
    if group:
        result.kills = group.kills()
        for _ in range(100):
            try:
                group.close()
                break
            except OSError:
                time.sleep(0.05)
    return result


def plan(snug, words):
    run = subprocess.run([snug, "plan", "--json", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                         check=False)
    assert run.returncode in (0, 3), run.stderr
    return json.loads(run.stdout)


def run_setup(snug, setup, folder, in_group=False):
    """Trains a setup within its device_memory; gives what was planned and each watched run's result."""
    model = folder / "model"
    write_model(setup, model)
    words = [f"model={model}", f"data={model / 'rows.jsonl'}", "init=random", f"bucket_count={setup.buckets}",
             "global_batch_size=8", "threads=2", "max_steps=4", "save_steps=2", "logging_steps=1", *setup.settings]
    if setup.evaluate:
        words += ["val_size=16", "eval_strategy=steps", "eval_steps=2"]
    most = plan(snug, [*words, "device_memory=1TiB"])["needed_bytes"]
    least = plan(snug, [*words, "device_memory=1MiB"])["needed_bytes"]
    budget = int(least + setup.room * max(0, most - least))
    planned = plan(snug, [*words, f"device_memory={budget}"])
    if not planned["fits"]:
        budget = planned["needed_bytes"]
        planned = plan(snug, [*words, f"device_memory={budget}"])
    words += [f"device_memory={budget}"]
    limit = budget if in_group else None
    first = folder / "first"
    runs = [watch([snug, "train", "--json", *words, f"output_dir={first}"], limit)]
    if setup.resume and runs[0].status == 0:
        runs.append(watch([snug, "train", "--json", *words, f"output_dir={folder / 'second'}",
                           f"resume_from_checkpoint={first / 'checkpoint-2'}"], limit))
    return budget, planned, runs
