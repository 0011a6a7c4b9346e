"""A run that stops and goes on is the run that never stopped, bit for bit, and what it leaves behind always loads."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time

import pytest
import safetensors.torch
import torch
import transformers

MODEL = dict(hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=3,
             vocab_size=131, max_position_embeddings=512, bos_token_id=1, eos_token_id=2)
ROWS = 22  # with 4 a step: epochs of 6 steps, so that 10 steps cross an epoch's end
SETTINGS = ["append_eos=false", "threads=2", "max_steps=10", "save_steps=5", "learning_rate=1e-3", "warmup_steps=2",
            "weight_decay=0.1", "global_batch_size=4", "per_device_train_batch_size=2",
            "activation_checkpointing=false"]
STATE = ["model.safetensors", "optimizer.safetensors"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The settings that name a small random model and its rows."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model("qwen2", **MODEL, dtype="bfloat16")
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    rows = [torch.randint(0, MODEL["vocab_size"], (15 + 67 * i % 401,)).tolist() for i in range(ROWS)]
    (folder / "rows.jsonl").write_text("".join(json.dumps({"input_ids": ids, "labels": ids}) + "\n" for ids in rows))
    return [f"model={folder}", f"data={folder / 'rows.jsonl'}"]


def command(tool, model, output, *changes):
    settings = {word.split("=", 1)[0]: word for word in [*SETTINGS, *changes]}
    return [str(tool("snug")), "train", *model, f"output_dir={output}", "--json", *settings.values()]


def train(tool, model, output, *changes, status=0):
    done = subprocess.run(command(tool, model, output, *changes), capture_output=True, text=True, timeout=120)
    assert done.returncode == status, done.stderr
    return done


def metrics(output):
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def checkpoints(output):
    return sorted(output.glob("checkpoint-*"), key=lambda folder: int(folder.name.split("-")[1]))


def assert_loads(folder):
    """transformers reads the model, and every tensor of the optimizer's state is there and finite."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    state = safetensors.torch.load_file(folder / "optimizer.safetensors")
    names = {name for name, _ in model.named_parameters()}
    assert {f"{name}.{part}" for name in names for part in ("master", "exp_avg", "exp_avg_sq")} == set(state)
    assert all(torch.isfinite(tensor).all() for tensor in state.values())


def assert_same_end(output, whole):
    for name in STATE:
        assert (output / "checkpoint-10" / name).read_bytes() == (whole / "checkpoint-10" / name).read_bytes(), name
    assert (output / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    ours, expected = ({m["step"]: (m["loss"], m["grad_norm"], m["learning_rate"], m["epoch"]) for m in metrics(run)}
                      for run in (output, whole))
    assert {step: expected[step] for step in ours} == ours and max(ours) == 10


@pytest.fixture(scope="module")
def whole(tool, model, tmp_path_factory):
    """Ten steps without a stop; checkpoints after 5 and 10."""
    output = tmp_path_factory.mktemp("whole") / "run"
    done = train(tool, model, output)
    assert [folder.name for folder in checkpoints(output)] == ["checkpoint-5", "checkpoint-10"]
    return output, json.loads(done.stdout)


def test_memory_is_what_was_planned_from_first_to_last_step(whole):
    output, result = whole
    assert result["used_peak_bytes"] == result["planned_peak_bytes"] > 0
    steps = metrics(output)
    assert [m["step"] for m in steps] == list(range(1, 11))
    for key in ("memory/planned_peak", "memory/reserved"):
        assert {m[key] for m in steps} == {result["planned_peak_bytes"]}, key
    assert max(m["memory/peak"] for m in steps) == result["planned_peak_bytes"]
    # All memory is there before step 1; later steps may touch a page of libc's, not a tensor's worth.
    resident = [m["memory/rss"] for m in steps]
    assert max(resident[2:]) - resident[1] <= 256 * 1024


def test_every_checkpoint_loads(whole):
    output, _ = whole
    for folder in checkpoints(output):
        assert_loads(folder)


def plan(tool, model, *changes):
    done = subprocess.run([str(tool("snug")), "plan", *command(tool, model, "unused", *changes)[2:]],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("changes", [[], ["activation_checkpointing=true"], ["threads=1"],
                                     ["save_steps=1", "logging_steps=1", "data_seed=42"]],
                         ids=["unchanged", "recomputed", "one-thread", "saved-often"])
def test_going_on_gives_the_same_bits(tool, model, whole, tmp_path, changes):
    output, _ = whole
    shutil.copytree(output / "checkpoint-5", tmp_path / "run" / "checkpoint-5")
    done = train(tool, model, tmp_path / "run", "resume_from_checkpoint=true", *changes)
    assert "checkpoint-5 at step 5" in done.stderr
    assert_same_end(tmp_path / "run", output)
    assert [m["step"] for m in metrics(tmp_path / "run")] == [6, 7, 8, 9, 10]


def test_going_on_with_less_memory_gives_the_same_bits(tool, model, whole, tmp_path):
    """Half of what recomputing saves is taken away, so that it has to recompute."""
    output, result = whole
    needs = [plan(tool, model, f"activation_checkpointing={policy}")["needed_bytes"] for policy in ("false", "true")]
    assert needs[1] < needs[0] - 2**20  # more than what the process itself takes may differ by
    shutil.copytree(output / "checkpoint-5", tmp_path / "run" / "checkpoint-5")
    done = train(tool, model, tmp_path / "run", "resume_from_checkpoint=true", f"device_memory={sum(needs) // 2}",
                 "activation_checkpointing=auto")
    assert json.loads(done.stdout)["planned_peak_bytes"] < result["planned_peak_bytes"]
    assert_same_end(tmp_path / "run", output)


def test_the_micro_batch_stays_when_memory_is_less(tool, model, tmp_path):
    """Left to itself, the planner would rather take a smaller micro-batch than recompute."""
    free = ["per_device_train_batch_size=auto", "activation_checkpointing=auto"]
    words = ["max_steps=4", "save_steps=4", *free]
    whole = json.loads(train(tool, model, tmp_path / "whole", *words).stdout)
    assert whole["micro_batch"] == 4
    train(tool, model, tmp_path / "run", *words, "max_steps=2", "save_steps=2")
    needs = [plan(tool, model, "per_device_train_batch_size=4", f"activation_checkpointing={policy}")["needed_bytes"]
             for policy in ("false", "true")]
    less = f"device_memory={sum(needs) // 2}"
    assert plan(tool, model, *free, less)["micro_batch"] < 4
    done = train(tool, model, tmp_path / "run", *words, less, "resume_from_checkpoint=true")
    assert json.loads(done.stdout)["micro_batch"] == 4
    for name in STATE:
        resumed, expected = (tmp_path / run / "checkpoint-4" / name for run in ("run", "whole"))
        assert resumed.read_bytes() == expected.read_bytes(), name


def test_a_new_output_folder_goes_on_from_a_named_checkpoint(tool, model, whole, tmp_path):
    output, _ = whole
    train(tool, model, tmp_path / "run", f"resume_from_checkpoint={output / 'checkpoint-5'}")
    assert_same_end(tmp_path / "run", output)


def test_another_instruction_set_is_said(tool, model, whole, tmp_path):
    output, _ = whole
    written = json.loads((output / "checkpoint-5" / "rng_state.json").read_text())["computed_on"]
    assert written.startswith("cpu (")
    for there in ("cpu (avx2)", "cpu (other)"):
        run = tmp_path / there
        shutil.copytree(output / "checkpoint-5", run / "checkpoint-5")
        state = json.loads((run / "checkpoint-5" / "rng_state.json").read_text())
        (run / "checkpoint-5" / "rng_state.json").write_text(json.dumps({**state, "computed_on": there}))
        sums = json.loads((run / "checkpoint-5" / "checksums.json").read_text())
        del sums["files"]["rng_state.json"]
        (run / "checkpoint-5" / "checksums.json").write_text(json.dumps(sums))
        done = train(tool, model, run, "resume_from_checkpoint=true", "instruction_set=avx2")
        said = f"note: computed on {there} so far, on cpu (avx2) from here: results are not bit-equal" in done.stderr
        assert said == (there == "cpu (other)")
        last = json.loads((run / "checkpoint-10" / "rng_state.json").read_text())
        assert last["computed_on"] == "cpu (avx2)"


def test_what_more_steps_do_to_the_schedule_is_said(tool, model, whole, tmp_path):
    output, _ = whole
    shutil.copytree(output / "checkpoint-5", tmp_path / "run" / "checkpoint-5")
    done = train(tool, model, tmp_path / "run", "resume_from_checkpoint=true", "max_steps=20")
    assert "note: 10 steps (3 epochs) then, 20 (3) now: the learning rate follows the schedule of 20 steps" in done.stderr
    then, now = (next(m["learning_rate"] for m in metrics(run) if m["step"] == 6) for run in (output, tmp_path / "run"))
    assert then < now
    assert f"{now:.3g} at this step where {then:.3g} was planned" in done.stderr


@pytest.mark.parametrize("change, key", [("master_weights=none", "master_weights: fp32 then, none now"),
                                         ("seed=7", "seed: 42 then, 7 now"),
                                         ("weight_decay=0.2", "weight_decay: 0.1 then, 0.2 now"),
                                         ("learning_rate=1e-4", "learning_rate: 0.001 then, 0.0001 now"),
                                         ("train_sampling_strategy=sequential", "train_sampling_strategy: random then"),
                                         ("per_device_train_batch_size=1",
                                          "per_device_train_batch_size: 2 then, 1 now"),
                                         ("bucket_count=1", "bucket_count: 8 then, 1 now"),
                                         ("data_seed=3", "data_seed: 42 then, 3 now"),
                                         ("bf16=false", "bf16: true then, false now")])
def test_a_change_of_results_is_refused(tool, model, whole, change, key):
    output, _ = whole
    times = lambda: {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.name != "run.lock"}  # noqa: E731
    before = times()
    done = train(tool, model, output, "resume_from_checkpoint=true", change, status=1)
    assert key in done.stderr and "Traceback" not in done.stderr
    assert times() == before


def test_a_folder_with_a_run_is_not_run_over(tool, model, whole):
    output, _ = whole
    done = train(tool, model, output, status=1)
    assert "resume_from_checkpoint=true" in done.stderr


# Not done before the signal; a rate that does not depend on the number of steps; a checkpoint is often in writing.
ENDLESS = ["max_steps=1000000", "logging_steps=100000", "save_steps=1", "lr_scheduler_type=constant", "warmup_steps=0"]


@contextlib.contextmanager
def endless(tool, model, output, talk):
    """A run that has saved its third checkpoint; it talks to the file `talk`."""
    with open(talk, "w") as file:
        running = subprocess.Popen(command(tool, model, output, *ENDLESS), stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + 60
        while not (output / "checkpoint-3").exists() and not (output / "checkpoint-4").exists():
            assert running.poll() is None and time.monotonic() < deadline, talk.read_text()
            time.sleep(0.002)
        yield running
    finally:
        running.kill()
        running.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_a_stopped_run_goes_on_to_the_same_bits(tool, model, tmp_path, number):
    output, talk = tmp_path / "run", tmp_path / "talk"
    with endless(tool, model, output, talk) as running:
        running.send_signal(number)
        status = running.wait(60)
    last = checkpoints(output)[-1]
    assert_loads(last)
    step = int(last.name.split("-")[1])
    if number == signal.SIGKILL:
        assert status == -number
    else:
        assert status == 128 + number, talk.read_text()
        assert step == metrics(output)[-1]["step"]
        assert not list(output.glob(".*"))
    end = [*ENDLESS, f"max_steps={step + 3}", f"save_steps={step + 3}"]
    train(tool, model, output, *end, "resume_from_checkpoint=true")
    train(tool, model, tmp_path / "whole", *end)
    assert not list(output.glob(".*"))
    for name in STATE:
        resumed, whole = (run / f"checkpoint-{step + 3}" / name for run in (output, tmp_path / "whole"))
        assert resumed.read_bytes() == whole.read_bytes(), name
    assert [m["step"] for m in metrics(output)] == list(range(1, step + 4))


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small tmpfs")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_costs_checkpoints_and_not_the_run(tool, model, small_disk, tmp_path):
    output, talk = small_disk / "run", tmp_path / "talk"
    with endless(tool, model, output, talk) as running:
        with open(small_disk / "filler", "wb", buffering=0) as filler:
            while "no room for a checkpoint" not in talk.read_text():
                assert running.poll() is None, talk.read_text()
                with contextlib.suppress(OSError):
                    filler.write(bytes(4096))
        kept = checkpoints(output)
        assert kept and not list(output.glob(".checkpoint*"))
        for folder in kept:
            assert_loads(folder)
        (small_disk / "filler").unlink()
        last = int(kept[-1].name.split("-")[1])
        deadline = time.monotonic() + 60
        while int(checkpoints(output)[-1].name.split("-")[1]) <= last:
            assert running.poll() is None and time.monotonic() < deadline, talk.read_text()
            time.sleep(0.01)


def test_a_disk_too_small_is_refused_before_the_first_step(tool, model, small_disk):
    (small_disk / "run").mkdir()
    (small_disk / "run" / "notes").write_bytes(bytes(30 * 2**20))  # not a checkpoint: it will not make room
    done = train(tool, model, small_disk / "run", status=1)
    assert "disk: 2 checkpoints" in done.stderr and not checkpoints(small_disk / "run")


@pytest.mark.parametrize("changes", [["optim=adamw_8bit"], ["optim=adamw_bnb_8bit", "master_weights=none"],
                                     ["optim=lion_8bit"], ["optim=adafactor"],
                                     ["optim=sgd", "optim_args=momentum=0.9"],
                                     ["optim=adamw_8bit", "update_in_backward=true", "max_grad_norm=0",
                                      "per_device_train_batch_size=4"]],
                         ids=["adamw-8bit", "adamw-bnb-8bit", "lion-8bit", "adafactor", "sgd", "in-backward"])
def test_every_optimizer_goes_on_with_the_same_bits(tool, model, tmp_path, changes):
    whole = tmp_path / "whole"
    train(tool, model, whole, *changes)
    state = safetensors.torch.load_file(whole / "checkpoint-5" / "optimizer.safetensors")
    if "8bit" in changes[0]:
        assert {tensor.dtype for tensor in state.values()} == {torch.uint8, torch.float32}
    shutil.copytree(whole / "checkpoint-5", tmp_path / "run" / "checkpoint-5")
    train(tool, model, tmp_path / "run", "resume_from_checkpoint=true", *changes)
    assert_same_end(tmp_path / "run", whole)


def test_updates_in_backward_are_the_same_updates(tool, model, tmp_path):
    changes = ["max_grad_norm=0", "per_device_train_batch_size=4"]
    train(tool, model, tmp_path / "whole", *changes)
    train(tool, model, tmp_path / "run", "update_in_backward=true", *changes)
    for name in STATE:
        one, other = ((tmp_path / run / "checkpoint-10" / name).read_bytes() for run in ("whole", "run"))
        assert one == other, name


def test_going_on_with_another_optimizer_is_refused(tool, model, whole, tmp_path):
    output, _ = whole
    shutil.copytree(output / "checkpoint-5", tmp_path / "run" / "checkpoint-5")
    done = train(tool, model, tmp_path / "run", "resume_from_checkpoint=true", "optim=lion_32bit", status=1)
    assert "optim: adamw_torch then, lion_32bit now" in done.stderr


@pytest.mark.parametrize("changes,message", [
    (["per_device_train_batch_size=4"], "max_grad_norm=1: the norm of all gradients is known only after the first "
                                        "updates. Nearest: max_grad_norm=0, or keep gradients"),
    (["max_grad_norm=0"], "gradient_accumulation_steps=2: each micro-batch would update. Nearest: accumulation 1, or "
                          "keep gradients"),
    ([], "Nearest: max_grad_norm=0 and accumulation 1, or keep gradients"),
], ids=["clipping", "accumulation", "both"])
def test_updates_in_backward_say_what_they_need(tool, model, tmp_path, changes, message):
    done = train(tool, model, tmp_path / "run", "update_in_backward=true", *changes, status=1)
    assert message in done.stderr
