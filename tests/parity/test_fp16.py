"""fp16 with its dynamic loss scale is what torch does with a GradScaler, an fp32 master and an fp16 model.

Tolerances: fp16 keeps 11 bits, so that an activation is off by 2^-11 = 5e-4 of its size wherever it is rounded; the two
sides round in different places, some tens of times between input and loss. 1e-2 leaves room for that. What is skipped
and how the scale moves is compared exactly.
"""

import json
import subprocess

import pytest
import torch
import transformers

SMALL = dict(hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=3,
             vocab_size=131, max_position_embeddings=64, bos_token_id=1, eos_token_id=2)
STEPS = 8
TOLERANCE = 1e-2


@pytest.fixture(scope="module")
def rows():
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, SMALL["vocab_size"], (length,), generator=generator).tolist() for length in (23, 7, 17)]


def make_model(gain):
    """With `gain` on the head's and the down projections' weights, backward's values grow with it."""
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model("llama", **SMALL, attn_implementation="eager")
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).train()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "down_proj" in name or "lm_head" in name:
                parameter.mul_(gain)
    return model


def theirs(master, rows):
    """GradScaler's rule over an fp16 copy of an fp32 master: (loss, norm, scale after the step) of each step."""
    half = transformers.AutoModelForCausalLM.from_config(master.config, dtype=torch.float16).train()
    optimizer = torch.optim.AdamW(master.parameters(), lr=1e-3, weight_decay=0.0)
    scale, history = 65536.0, []
    labels = sum(len(row) - 1 for row in rows)
    for _ in range(STEPS):
        with torch.no_grad():
            for ours, wide in zip(half.parameters(), master.parameters()):
                ours.copy_(wide)
        half.zero_grad()
        logits = [half(torch.tensor([row])).logits[0].float() for row in rows]
        loss = sum(torch.nn.functional.cross_entropy(x[:-1], torch.tensor(row)[1:], reduction="sum")
                   for x, row in zip(logits, rows)) / labels
        (loss * scale).backward()
        for ours, wide in zip(half.parameters(), master.parameters()):
            wide.grad = ours.grad.float() / scale
        norm = torch.nn.utils.clip_grad_norm_(master.parameters(), 1.0)
        if torch.isfinite(norm):
            optimizer.step()
        else:
            scale /= 2
        history.append((loss.item(), norm.item(), scale))
    return history


def train(tool, folder, rows, output, *settings):
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps({"input_ids": row, "labels": row}) + "\n" for row in rows))
    done = subprocess.run([str(tool("snug")), "train", f"model={folder}", f"data={file}", f"output_dir={output}",
                           "fp16=true", "append_eos=false", "threads=2", "lr_scheduler_type=constant",
                           "warmup_steps=0", "learning_rate=1e-3", f"per_device_train_batch_size={len(rows)}",
                           "train_sampling_strategy=sequential", *settings],
                          capture_output=True, text=True, timeout=240)
    return done


def metrics(output):
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("gain", [1.0, 60.0], ids=["calm", "overflowing"])
def test_training_equals_torch_with_a_grad_scaler(tool, tmp_path, rows, gain):
    model = make_model(gain)
    model.save_pretrained(tmp_path / "model")
    done = train(tool, tmp_path / "model", rows, tmp_path / "run", f"max_steps={STEPS}", "save_strategy=no")
    assert done.returncode == 0, done.stderr
    history = theirs(model, rows)
    ours = metrics(tmp_path / "run")
    skipped = [m["step"] for m in ours if not m["applied"]]
    assert bool(skipped) == (gain > 1)
    assert [m["loss_scale"] for m in ours] == [scale for _, _, scale in history]
    assert ours[-1]["skipped_steps"] == len(skipped)
    assert done.stderr.count("overflowed") + done.stdout.count("overflowed") == len(skipped)
    for m, (loss, norm, _) in zip(ours, history):
        assert m["loss"] == pytest.approx(loss, rel=TOLERANCE)
        if m["applied"]:
            assert m["grad_norm"] == pytest.approx(norm, rel=5 * TOLERANCE)


def test_a_resumed_run_goes_on_with_its_scale(tool, tmp_path, rows):
    make_model(60.0).save_pretrained(tmp_path / "model")
    for name, steps in (("whole", 6), ("cut", 3)):
        assert train(tool, tmp_path / "model", rows, tmp_path / name, f"max_steps={steps}", "save_steps=3").returncode == 0
    scaler = json.loads((tmp_path / "cut" / "checkpoint-3" / "scaler.json").read_text())
    assert scaler["skipped"] > 0 and scaler["scale"] == 65536 / 2 ** scaler["skipped"]
    done = train(tool, tmp_path / "model", rows, tmp_path / "cut", "max_steps=6", "save_steps=3",
                 "resume_from_checkpoint=true")
    assert done.returncode == 0, done.stderr
    for name in ("model.safetensors", "optimizer.safetensors", "scaler.json"):
        assert ((tmp_path / "cut" / "checkpoint-6" / name).read_bytes()
                == (tmp_path / "whole" / "checkpoint-6" / name).read_bytes()), name
    damaged = tmp_path / "cut" / "checkpoint-6" / "scaler.json"
    damaged.write_text('{"scale": 0.25}')
    done = train(tool, tmp_path / "model", rows, tmp_path / "cut", "max_steps=7", "resume_from_checkpoint=true")
    assert done.returncode == 0 and "scaler.json" in done.stderr
    assert "resumed from" in done.stderr and "checkpoint-3 at step 3" in done.stderr


def test_a_scale_below_one_ends_the_run(tool, tmp_path, rows):
    make_model(1e6).save_pretrained(tmp_path / "model")
    done = train(tool, tmp_path / "model", rows, tmp_path / "run", "max_steps=40", "save_strategy=no")
    assert done.returncode == 1 and "overflow even at a loss scale of 1" in done.stderr


@pytest.mark.parametrize("setting, key", [("bf16=true", "bf16"), ("gradient_dtype=bf16", "gradient_dtype"),
                                          ("master_weights=none", "master_weights")])
def test_what_fp16_cannot_do_is_refused_with_a_way_out(tool, tmp_path, rows, setting, key):
    make_model(1.0).save_pretrained(tmp_path / "model")
    done = train(tool, tmp_path / "model", rows, tmp_path / "run", "max_steps=1", setting)
    assert done.returncode == 1 and key in done.stderr and "fp16=true" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("optim", ["adamw_8bit", "adamw_bnb_8bit", "adafactor", "adafactor_torch", "lion_32bit", "lion_8bit", "sgd"])
@pytest.mark.parametrize("tuning", [[], ["finetuning_type=lora", "use_dora=true", "lora_dropout=0.1"],
                                    ["adapter=qlora", "lora_target_modules=q_proj,lm_head"]],
                         ids=["full", "dora", "qlora-head"])
def test_every_optimizer_and_adapter_has_its_kernels(tool, tmp_path, rows, optim, tuning):
    make_model(1.0).save_pretrained(tmp_path / "model")
    done = train(tool, tmp_path / "model", rows, tmp_path / "run", "max_steps=3", "save_strategy=no", f"optim={optim}",
                 *tuning)
    assert done.returncode == 0, done.stderr
    assert "reference" not in done.stderr + done.stdout
    ours = metrics(tmp_path / "run")
    assert all(m["applied"] for m in ours) and ours[-1]["loss"] < ours[0]["loss"] + 1e-3
