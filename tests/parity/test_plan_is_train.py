"""`plan` and `train` agree in verdict, recipe, arena bytes and refusals, over random configurations.

SNUG_PLAN_IS_TRAIN is how many (10; `./dev plan-is-train` takes 60)."""

import json
import os
import random
import subprocess

import pytest
import torch
import transformers

COUNT = int(os.environ.get("SNUG_PLAN_IS_TRAIN", "10"))
MODEL = dict(hidden_size=64, intermediate_size=128, num_attention_heads=4, num_key_value_heads=2, vocab_size=259,
             max_position_embeddings=512, bos_token_id=1, eos_token_id=2)


def write_rows(path, lengths):
    torch.manual_seed(len(lengths))
    rows = [torch.randint(0, MODEL["vocab_size"], (length,)).tolist() for length in lengths]
    path.write_text("".join(json.dumps({"input_ids": ids, "labels": ids}) + "\n" for ids in rows))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models of 1 and of 6 layers, rows to train on and longer ones to evaluate on."""
    folder = tmp_path_factory.mktemp("plan_is_train")
    for layers in (1, 6):
        torch.manual_seed(layers)
        config = transformers.AutoConfig.for_model("llama", num_hidden_layers=layers, **MODEL, dtype="bfloat16")
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder / f"model{layers}")
    choose = random.Random(1)
    write_rows(folder / "short.jsonl", [choose.randint(4, 40) for _ in range(24)])
    write_rows(folder / "mixed.jsonl", [choose.randint(4, 200) for _ in range(24)])
    write_rows(folder / "long.jsonl", [choose.randint(200, 500) for _ in range(5)])
    return folder


def configuration(folder, seed):
    """Settings of a run of one step; some of them contradict each other or need more memory than there is."""
    choose = random.Random(seed)
    model = folder / f"model{choose.choice([1, 6])}"
    words = [f"model={model}", f"data={folder / choose.choice(['short.jsonl', 'mixed.jsonl'])}", "max_steps=1",
             "save_strategy=no", "threads=2", "append_eos=false"]

    def maybe(chance, *alternatives):
        if choose.random() < chance:
            words.extend(choose.choice(alternatives).split())

    maybe(0.5, f"eval_file={folder / 'long.jsonl'}", f"eval_file={folder / 'short.jsonl'}", "val_size=3")
    maybe(0.04, "val_size=24")
    maybe(0.4, "eval_strategy=steps eval_steps=1", "eval_strategy=epoch", "eval_strategy=no")
    maybe(0.8, *(f"bucket_count={n}" for n in (1, 2, 3, 8)))
    maybe(0.8, *(f"global_batch_size={n}" for n in (2, 4, 8)))
    maybe(0.3, "per_device_train_batch_size=2", "per_device_train_batch_size=1")
    maybe(0.04, "per_device_train_batch_size=3")
    maybe(0.5, "activation_checkpointing=true", "activation_checkpointing=false", "activation_checkpointing=every:2",
          "activation_checkpointing=200KB", "activation_checkpointing=auto")
    maybe(0.9, *(f"device_memory={n}MiB" for n in (5, 18, 19, 21, 24, 30, 60, 1000)))
    maybe(0.3, "mlp_chunks=2", "loss_chunk_bytes=16KB", "packing=true max_length=128")
    maybe(0.3, "bf16=false", "fp16=true bf16=false", "master_weights=none max_grad_norm=0")
    maybe(0.3, "optim=adamw_8bit", "optim=adafactor", "optim=sgd", "optim=lion_32bit")
    maybe(0.2, "update_in_backward=true max_grad_norm=0", "update_in_backward=true max_grad_norm=0 optim=adafactor",
          "update_in_backward=true")
    maybe(0.4, "finetuning_type=lora", "finetuning_type=lora load_in_4bit=true",
          "finetuning_type=lora load_in_4bit=true bnb_4bit_quant_type=fp4", "finetuning_type=lora load_in_8bit=true")
    maybe(0.05, "lr_scheduler_type=cosine_with_min_lr", "lr_scheduler_type=warmup_stable_decay")
    return words


def run(tool, verb, words):
    done = subprocess.run([str(tool("snug")), verb, *words, "--json"], capture_output=True, text=True, timeout=120)
    return done.returncode, json.loads(done.stdout) if done.returncode == 0 else {}, done.stderr


def complaint(stderr):
    """The refusal, without the verb's name."""
    return [line for line in stderr.splitlines() if line.strip()][-1:]


@pytest.mark.parametrize("seed", range(COUNT))
def test_plan_is_train(tool, folder, tmp_path, seed):
    words = [*configuration(folder, seed), f"output_dir={tmp_path / 'run'}"]
    planned, plan, plan_said = run(tool, "plan", words)
    assert not (tmp_path / "run").exists()
    trained, train, train_said = run(tool, "train", words)
    assert planned == trained, f"{words}\n{plan_said}\n{train_said}"
    assert planned in (0, 1, 3), plan_said
    if planned == 0:
        assert (plan["recipe"], plan["arena_bytes"]) == (train["recipe"], train["arena_bytes"]), words
        assert train["used_peak_bytes"] == train["played_peak_bytes"] <= train["arena_bytes"], words
    if planned == 1:
        assert complaint(plan_said) == complaint(train_said), words


def test_fp4_is_refused_by_both(tool, folder, tmp_path):
    words = [f"model={folder / 'model1'}", f"data={folder / 'short.jsonl'}", "finetuning_type=lora", "load_in_4bit=true",
             "bnb_4bit_quant_type=fp4", f"output_dir={tmp_path / 'run'}"]
    (planned, _, plan_said), (trained, _, train_said) = run(tool, "plan", words), run(tool, "train", words)
    assert planned == trained == 1
    assert complaint(plan_said) == complaint(train_said) and "bnb_4bit_quant_type=nf4" in plan_said


def test_a_long_row_to_evaluate_is_in_the_plan_and_not_in_the_training_rows(tool, folder, tmp_path):
    words = [f"model={folder / 'model6'}", f"data={folder / 'short.jsonl'}", f"eval_file={folder / 'long.jsonl'}",
             "eval_strategy=epoch", "max_steps=1", "save_strategy=no", "append_eos=false", f"output_dir={tmp_path / 'run'}"]
    (planned, plan, _), (trained, train, _) = run(tool, "plan", words), run(tool, "train", words)
    assert planned == trained == 0
    assert plan["arena_bytes"] == train["arena_bytes"]
    longest = max(len(json.loads(line)["input_ids"]) for line in (folder / "short.jsonl").read_text().splitlines())
    assert f"rows of ≤ {longest}" in plan["recipe"]


def test_a_folder_that_holds_a_run_is_refused_by_both(tool, folder, tmp_path):
    words = [f"model={folder / 'model1'}", f"data={folder / 'short.jsonl'}", "max_steps=1", "save_strategy=no",
             f"output_dir={tmp_path / 'run'}"]
    assert run(tool, "train", words)[0] == 0
    words[2] = "max_steps=2"
    (planned, _, plan_said), (trained, _, train_said) = run(tool, "plan", words), run(tool, "train", words)
    assert planned == trained == 1
    assert complaint(plan_said) == complaint(train_said)
