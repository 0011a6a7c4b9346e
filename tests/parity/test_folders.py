"""Folders: nothing of anyone's is lost, no two runs write one, and a run that is cut off anywhere can go on."""

import contextlib
import json
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import subprocess
import time

import pytest

CONFIG = dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_size=32, intermediate_size=48,
              num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, vocab_size=61,
              max_position_embeddings=64, rms_norm_eps=1e-5, rope_theta=10000.0, hidden_act="silu",
              tie_word_embeddings=False, bos_token_id=1, eos_token_id=2, torch_dtype="bfloat16")
SETTINGS = ["init=random", "append_eos=false", "threads=1", "max_steps=4", "save_steps=2", "learning_rate=1e-3",
            "lr_scheduler_type=constant", "warmup_steps=0", "global_batch_size=2", "per_device_train_batch_size=2",
            "device_memory=200MiB", "activation_checkpointing=false"]
ENDLESS = ["max_steps=100000000", "logging_steps=1000000", "save_steps=100000000", "save_interval=none"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The settings that name a small model without weights and its rows."""
    folder = tmp_path_factory.mktemp("a model")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    ids = random.Random(0)
    rows = [[ids.randrange(3, 61) for _ in range(8)] for _ in range(8)]
    (folder / "rows.jsonl").write_text("".join(json.dumps({"input_ids": r, "labels": r}) + "\n" for r in rows))
    return folder


def command(tool, model, output, *changes):
    settings = {word.split("=", 1)[0]: word for word in [*SETTINGS, *changes]}
    folder = [] if output is None else [f"output_dir={output}"]
    return [str(tool("snug")), "train", f"model={model}", f"data={model / 'rows.jsonl'}", *folder, *settings.values()]


def train(tool, model, output, *changes, status=0, **options):
    done = subprocess.run(command(tool, model, output, *changes), capture_output=True, text=True, timeout=60, **options)
    assert done.returncode == status, done.stderr
    return done


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
            for path in folder.rglob("*")}


def steps_of(output):
    return sorted(int(folder.name.split("-")[1]) for folder in output.glob("checkpoint-*"))


def wait_for(condition, running=None):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline and (running is None or running.poll() is None)
        time.sleep(0.005)


@contextlib.contextmanager
def running(tool, model, output, *changes, talk, **options):
    """A run that has made at least two steps; it talks to the file `talk`."""
    with open(talk, "w") as file:
        # A process of its own writes the file: limits on the run's files are none of its.
        scribe = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file)
        process = subprocess.Popen(command(tool, model, output, *changes), stdout=scribe.stdin, stderr=scribe.stdin,
                                   **options)
        scribe.stdin.close()
    try:
        metrics = output / "metrics.jsonl"
        wait_for(lambda: metrics.exists() and metrics.read_bytes().count(b"\n") >= 2, process)
        yield process
    finally:
        process.kill()
        process.wait()
        scribe.wait()


@pytest.mark.parametrize("changes", [[], ["finetuning_type=lora"]], ids=["full", "lora"])
@pytest.mark.parametrize("linked", [False, True], ids=["itself", "link"])
def test_the_models_own_folder_is_refused(tool, model, tmp_path, changes, linked):
    base = tmp_path / "base"
    shutil.copytree(model, base)
    (base / "model.safetensors").write_bytes(b"somebody's weights")
    output = base
    if linked:
        output = tmp_path / "link"
        output.symlink_to(base)
    before = contents(base)
    done = train(tool, base, output, *changes, status=1)
    assert "is the model's own folder" in done.stderr
    assert contents(base) == before


@pytest.mark.parametrize("name", ["model.safetensors", "model-00001-of-00002.safetensors", "adapter_config.json",
                                  "pytorch_model.bin", "tokenizer.json", "config.yaml", "metrics.jsonl"])
def test_a_folder_with_somebodys_files_is_refused_untouched(tool, model, tmp_path, name):
    output = tmp_path / "run"
    output.mkdir()
    (output / name).write_text("somebody's")
    before = contents(output)
    for resume in ("false", "auto"):
        done = train(tool, model, output, f"resume_from_checkpoint={resume}", status=1)
        assert name in done.stderr and "output_dir" in done.stderr
    assert contents(output) == before


def test_other_files_in_the_folder_stay(tool, model, tmp_path):
    output = tmp_path / "run"
    for name in (".mine.tmp", ".checkpoint-2.x.tmp", "checkpoint-mine", "notes"):
        (output / name).mkdir(parents=True)
        (output / name / "file").write_text("somebody's")
    before = contents(output)
    train(tool, model, output)
    train(tool, model, output, "resume_from_checkpoint=true", "max_steps=8", "save_total_limit=1")
    after = contents(output)
    assert {name: after.get(name) for name in before} == before
    assert not (output / "checkpoint-4").exists() and (output / "checkpoint-8").is_dir()


def test_a_model_that_appeared_in_a_runs_folder_stays(tool, model, tmp_path):
    output = tmp_path / "run"
    train(tool, model, output)
    (output / "model-00001-of-00002.safetensors").write_text("somebody's")
    done = train(tool, model, output, "resume_from_checkpoint=true", "max_steps=6", status=1)
    assert "model-00001-of-00002.safetensors" in done.stderr
    assert (output / "model-00001-of-00002.safetensors").read_text() == "somebody's"


def test_a_second_start_is_refused_and_names_the_first(tool, model, tmp_path):
    output = tmp_path / "run"
    with running(tool, model, output, *ENDLESS, talk=tmp_path / "talk") as first:
        for resume in ("false", "true", "auto"):
            done = train(tool, model, output, f"resume_from_checkpoint={resume}", status=1)
            assert f"process {first.pid}" in done.stderr
        assert first.poll() is None
        first.kill()
        first.wait()
    train(tool, model, output)  # the kernel has freed the lock


def test_of_ten_starts_one_runs(tool, model, tmp_path):
    output = tmp_path / "run"
    starts = [subprocess.Popen(command(tool, model, output, *ENDLESS), stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True) for _ in range(10)]
    try:
        wait_for(lambda: sum(start.poll() is None for start in starts) <= 1)
        first, = (start for start in starts if start.poll() is None)
        for start in starts:
            if start is first:
                continue
            assert start.returncode == 1
            assert f"process {first.pid}" in start.stderr.read()
        metrics = output / "metrics.jsonl"
        wait_for(lambda: metrics.exists() and metrics.read_bytes().count(b"\n") >= 2, first)
        assert [json.loads(line)["step"] for line in metrics.read_text().splitlines()[:2]] == [1, 2]
    finally:
        for start in starts:
            start.kill()
            start.wait()


def test_starts_without_a_folder_each_get_their_own(tool, model, tmp_path):
    words = command(tool, model, None, "max_steps=1")
    starts = [subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path)
              for _ in range(4)]
    assert [start.wait(60) for start in starts] == [0] * 4
    folders = list((tmp_path / "runs").iterdir())
    assert len(folders) == 4 and all((folder / "config.json").exists() for folder in folders)


def test_a_reserved_folder_goes_when_the_run_does_not_fit(tool, model, tmp_path):
    words = command(tool, model, None, "device_memory=1MiB")
    assert subprocess.run(words, capture_output=True, cwd=tmp_path).returncode == 3
    assert not list((tmp_path / "runs").iterdir())


def flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "dataloader_state.json"])
@pytest.mark.parametrize("resume", ["true", "auto"])
def test_a_damaged_checkpoint_is_skipped_aloud(tool, model, tmp_path, name, resume):
    output = tmp_path / "run"
    train(tool, model, output)
    whole = (output / "checkpoint-4" / "model.safetensors").read_bytes()
    flip_a_byte(output / "checkpoint-4" / name)
    done = train(tool, model, output, f"resume_from_checkpoint={resume}")
    assert f"skipped: {output / 'checkpoint-4' / name}" in done.stderr
    assert f"resumed from {output / 'checkpoint-2'} at step 2" in done.stderr
    assert (output / "checkpoint-4" / "model.safetensors").read_bytes() == whole
    assert [json.loads(line)["step"] for line in (output / "metrics.jsonl").read_text().splitlines()] == [1, 2, 3, 4]


def test_auto_starts_goes_on_and_refuses(tool, model, tmp_path):
    output = tmp_path / "run"
    auto = "resume_from_checkpoint=auto"
    assert "resumed" not in train(tool, model, output, auto).stderr
    assert "resumed from" in train(tool, model, output, auto, "max_steps=6").stderr
    before = contents(output)
    assert "is finished: step 6 of 6" in train(tool, model, output, auto, "max_steps=6").stderr
    after = contents(output)
    assert {name for name in before if before[name] != after[name]} <= {"run.lock"}
    for folder in output.glob("checkpoint-*"):
        flip_a_byte(folder / "model.safetensors")
    assert "no checkpoint that loads" in train(tool, model, output, auto, "max_steps=8", status=1).stderr


def test_killed_before_the_first_checkpoint_the_same_command_starts_over(tool, model, tmp_path):
    output = tmp_path / "run"
    with running(tool, model, output, *ENDLESS, talk=tmp_path / "talk") as first:
        first.kill()
        first.wait()
    done = train(tool, model, output)
    assert "it starts over" in done.stderr and steps_of(output) == [2, 4]
    assert [json.loads(line)["step"] for line in (output / "metrics.jsonl").read_text().splitlines()] == [1, 2, 3, 4]


def test_a_finished_run_goes_further_to_the_same_bits(tool, model, tmp_path):
    train(tool, model, tmp_path / "run", "max_steps=3", "save_steps=100")
    done = train(tool, model, tmp_path / "run", "max_steps=6", "save_steps=100", "resume_from_checkpoint=true")
    assert "note: 3 steps" in done.stderr
    train(tool, model, tmp_path / "whole", "max_steps=6", "save_steps=100")
    for name in ("model.safetensors", "checkpoint-6/optimizer.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def hints(text):
    return [line.strip() for line in text.splitlines() if line.startswith("  snug ")]


def test_the_printed_commands_work_when_pasted(tool, tmp_path):
    """In a folder with spaces and quotes; `snug` is the program under test."""
    place = tmp_path / "it's a folder"
    place.mkdir()
    environment = {**os.environ, "PATH": f"{tool('snug').parent}:{os.environ['PATH']}"}

    def paste(line):
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=place, env=environment,
                              timeout=120)
        assert done.returncode == 0, (line, done.stderr)
        return done

    paste('snug demo make output_dir="my demo"')
    for name, rows in (("train", 64), ("eval", 4)):
        path = place / "my demo" / f"{name}.jsonl"
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:rows]))
    done = paste('snug train model="my demo/model" data="my demo/train.jsonl" eval_file="my demo/eval.jsonl" '
                 'output_dir="the run" max_steps=2 global_batch_size=4 device_memory=200MiB threads=1')
    found = hints(done.stderr)
    assert [line.split()[1] for line in found] == ["generate", "eval", "train"]
    for line in found:
        done = paste(line)
    assert "resumed from the run/checkpoint-2" in done.stderr and steps_of(place / "the run") == [2, 4]


def test_a_missing_folder_for_temporary_files_does_not_matter(tool, model, tmp_path):
    train(tool, model, tmp_path / "run", env={**os.environ, "TMPDIR": str(tmp_path / "absent")})


@pytest.mark.parametrize("verb", ["train", "merge", "export"])
def test_an_empty_output_dir_is_named(tool, model, verb):
    words = [str(tool("snug")), verb, f"model={model}", f"data={model / 'rows.jsonl'}", "output_dir="]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1 and "output_dir" in done.stderr and "empty" in done.stderr


def test_checkpoints_by_the_clock(tool, model, tmp_path):
    output = tmp_path / "run"
    with running(tool, model, output, *ENDLESS, "save_interval=0.1s", talk=tmp_path / "talk") as process:
        wait_for(lambda: steps_of(output), process)
        first = steps_of(output)[-1]
        wait_for(lambda: steps_of(output) and steps_of(output)[-1] > first, process)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT],
                         ids=lambda number: number.name)
def test_signals_end_the_run_after_a_saved_step(tool, model, tmp_path, number):
    output = tmp_path / "run"
    with running(tool, model, output, *ENDLESS, talk=tmp_path / "talk") as process:
        process.send_signal(number)
        assert process.wait(60) == 128 + number
        last = json.loads((output / "metrics.jsonl").read_text().splitlines()[-1])["step"]
        assert steps_of(output) == [last]
    assert f"stopped by signal {number}" in (tmp_path / "talk").read_text()


def test_a_signal_ignored_at_the_start_stays_ignored(tool, model, tmp_path):
    output, metrics = tmp_path / "run", tmp_path / "run" / "metrics.jsonl"
    with running(tool, model, output, *ENDLESS, talk=tmp_path / "talk",
                 preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as process:
        process.send_signal(signal.SIGHUP)
        lines = metrics.read_bytes().count(b"\n")
        wait_for(lambda: metrics.read_bytes().count(b"\n") > lines + 2, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM


def test_a_stop_that_would_take_too_long_is_at_once(tool, model, tmp_path):
    output = tmp_path / "run"
    with running(tool, model, output, *ENDLESS, "save_interval=0.1s", "stop_grace=0", f"on_end=echo $SNUG_OUTCOME "
                 f"$SNUG_SIGNAL > '{tmp_path}/end'", talk=tmp_path / "talk") as process:
        wait_for(lambda: steps_of(output), process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    talk = (tmp_path / "talk").read_text()
    assert "longer than stop_grace (0 s)" in talk
    assert re.search(r"stopped by signal 15 at once: .*stop_grace is 0 s", talk)
    assert (tmp_path / "end").read_text() == "stopped 15\n"
    train(tool, model, output, f"max_steps={steps_of(output)[-1] + 2}", "save_steps=100000000",
          "resume_from_checkpoint=true")


def test_a_checkpoint_without_room_is_tried_again(tool, model, tmp_path):
    """The limit of a file's size stands for a full disk: it needs no root."""
    output = tmp_path / "run"
    with running(tool, model, output, *ENDLESS, "save_interval=0.1s", talk=tmp_path / "talk") as process:
        wait_for(lambda: steps_of(output), process)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        talk = tmp_path / "talk"
        wait_for(lambda: "no room for a checkpoint" in talk.read_text(), process)
        kept = steps_of(output)
        time.sleep(0.3)
        assert process.poll() is None and kept and steps_of(output) == kept
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        wait_for(lambda: steps_of(output)[-1] > kept[-1], process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    steps = [json.loads(line)["step"] for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)) and steps[:2] == [1, 2]  # whole lines; what waited for room came since


def test_checkpoints_of_the_weights_alone(tool, model, tmp_path):
    output = tmp_path / "run"
    done = train(tool, model, output, "save_only_model=true")
    assert "resume_from_checkpoint" not in "".join(hints(done.stderr))
    assert steps_of(output) == [2, 4] and not list(output.glob("checkpoint-*/optimizer*"))
    for resume in ("true", "auto", str(output / "checkpoint-4")):
        done = train(tool, model, output, "max_steps=6", f"resume_from_checkpoint={resume}", status=1)
        assert "weights alone" in done.stderr
    train(tool, output / "checkpoint-4", tmp_path / "more", "init=pretrained", f"data={model / 'rows.jsonl'}")


END = "on_end=echo \"$SNUG_OUTCOME $SNUG_EXIT_STATUS $SNUG_STEP $SNUG_OUTPUT_DIR $SNUG_MESSAGE\" > '{}'"


@pytest.mark.parametrize("changes, status, says", [
    ([], 0, "done 0 4 {output} "),
    (["device_memory=1MiB"], 3, "does_not_fit 3 0 {output} does not fit"),
    (["eval_file={bad}"], 1, "failed 1 0 {output} "),
], ids=["done", "does-not-fit", "failed"])
def test_the_command_at_the_end(tool, model, tmp_path, changes, status, says):
    output, end, bad = (tmp_path / name for name in ("run", "end", "bad.jsonl"))
    bad.write_text("no row\n")
    train(tool, model, output, END.format(end), *[change.format(bad=bad) for change in changes], status=status)
    assert end.read_text().startswith(says.format(output=output))


def test_the_command_at_the_end_is_the_users_own(tool, model, tmp_path):
    output, end = tmp_path / "run", tmp_path / "end"
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"on_end: touch {end}\n")
    words = command(tool, model, output)
    assert subprocess.run([*words[:2], str(mine), *words[2:]], capture_output=True).returncode == 0
    assert end.exists()
    end.unlink()
    for config in (output / "config.yaml", output / "checkpoint-4" / "config.yaml"):
        assert "on_end" not in config.read_text()
        config.write_text(config.read_text() + f"on_end: touch {end}\n")
        done = subprocess.run([words[0], "train", str(config), f"output_dir={tmp_path / 'other'}"],
                              capture_output=True, text=True)
        assert done.returncode == 1 and "on_end is not taken" in done.stderr
    train(tool, model, output, "resume_from_checkpoint=" + str(output / "checkpoint-2"), "max_steps=6")
    assert not end.exists()


def test_what_the_command_leaves_running_does_not_hold_the_lock(tool, model, tmp_path):
    output = tmp_path / "run"
    started = tmp_path / "pid"
    train(tool, model, output, f"on_end=sleep 60 >/dev/null 2>&1 & echo $! > '{started}'")
    try:
        train(tool, model, output, "max_steps=6", "resume_from_checkpoint=true")
    finally:
        os.kill(int(started.read_text()), signal.SIGKILL)


def assert_one_model(output):
    """No model, or the whole of one: all its files are of one save."""
    if not (output / "config.json").exists():
        return
    step = json.loads((output / "trainer_state.json").read_text())["global_step"]
    whole = (output / f"checkpoint-{step}" / "model.safetensors").read_bytes()
    assert (output / "model.safetensors").read_bytes() == whole


def test_killed_anywhere_the_run_goes_on(tool, model, tmp_path):
    output, whole = tmp_path / "run", tmp_path / "whole"
    began = time.monotonic()
    train(tool, model, whole, "max_steps=6", "save_steps=1", "save_total_limit=none")
    seconds = time.monotonic() - began
    moments = random.Random(1)
    for _ in range(int(os.environ.get("SNUG_KILLS", "6"))):
        process = subprocess.Popen(command(tool, model, output, "max_steps=6", "save_steps=1",
                                           "resume_from_checkpoint=auto", "save_total_limit=none"),
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(moments.uniform(0.3, 1) * seconds)
        process.kill()
        process.wait()
        if output.exists():
            assert_one_model(output)
    train(tool, model, output, "max_steps=6", "save_steps=1", "resume_from_checkpoint=auto", "save_total_limit=none")
    assert_one_model(output)
    assert (output / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert not [path for path in pathlib.Path(output).iterdir() if path.name.startswith(".")]
