"""Adapters are PEFT's: losses, every gradient, weights after some steps, and folders that both read, in fp32.

Tolerances as in test_training.py.
"""

import json

import peft
import pytest
import safetensors.torch
import test_training as base
import torch
import transformers
from test_training import step_tool  # noqa: F401

STEPS = 6
ATTENTION = ["q_proj", "v_proj"]
# name: model, LoraConfig's arguments
VARIANTS = {
    "lora": ("llama", dict(r=4, lora_alpha=8, target_modules=ATTENTION)),
    "every-linear": ("qwen3", dict(r=3, lora_alpha=7, target_modules="all-linear")),
    "rslora-biased": ("qwen2", dict(r=4, lora_alpha=6, use_rslora=True, target_modules=r".*\.(k|o|up)_proj")),
    "dora": ("mistral-window", dict(r=4, lora_alpha=8, use_dora=True, target_modules=["k_proj", "mlp.down_proj"])),
    "dora-biased": ("qwen2", dict(r=2, lora_alpha=2, use_dora=True, target_modules="all-linear")),
    "patterns": ("llama", dict(r=8, lora_alpha=16, target_modules=[*ATTENTION, "up_proj"],
                               rank_pattern={"q_proj": 4, r"layers\.1\.mlp\.up_proj": 2}, alpha_pattern={"v_proj": 3})),
    "head": ("llama", dict(r=4, lora_alpha=8, target_modules=["o_proj", "lm_head"])),
    "one-layer": ("llama", dict(r=4, lora_alpha=4, target_modules=ATTENTION, layers_to_transform=[1])),
    "saved-head": ("llama", dict(r=4, lora_alpha=8, target_modules=ATTENTION, modules_to_save=["lm_head", "norm"])),
    "saved-embedding-of-tied": ("qwen3-tied-multi-query", dict(r=4, lora_alpha=8, target_modules=ATTENTION,
                                                               modules_to_save=["embed_tokens"])),
}


def make_adapter(folder, name):
    """A base in folder/base and PEFT's adapter, with a B that is not zero, in folder/adapter."""
    shape, arguments = VARIANTS[name]
    model, rows = base.make_model(shape)
    model.save_pretrained(folder / "base")
    model = load_base(folder / "base")
    model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **arguments))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_B" in key:
                parameter.copy_(0.3 * torch.randn_like(parameter))
            elif "magnitude" in key:
                parameter.mul_(1 + 0.2 * torch.rand_like(parameter))
    model.save_pretrained(folder / "adapter")
    return model.train(), rows, base.write_rows(folder / "rows.jsonl", rows)


def load_base(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")


def our_name(key):
    key = key.removeprefix("base_model.model.").replace(".modules_to_save.default", "").replace(".default", "")
    return key.replace("lora_magnitude_vector.weight", "lora_magnitude_vector")


def trained(model):
    return {our_name(key): p for key, p in model.named_parameters() if p.requires_grad}


def adamw_steps(model, rows, steps):
    parameters = trained(model)
    plain = [p for key, p in parameters.items() if "norm" in key]
    decayed = [p for key, p in parameters.items() if "norm" not in key]
    optimizer = torch.optim.AdamW([dict(params=decayed, weight_decay=0.1), dict(params=plain, weight_decay=0.0)],
                                  lr=1e-3, betas=(0.9, 0.999), eps=1e-8)
    history = []
    for _ in range(steps):
        _, loss = base.theirs(model, rows)
        optimizer.zero_grad()
        loss.backward()
        history.append((loss.item(), torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0).item()))
        optimizer.step()
    return history


def steps_of(run):
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(m["loss"], m["grad_norm"]) for m in metrics]


@pytest.mark.parametrize("name", VARIANTS)
def test_training_on_from_an_adapter_equals_peft(tool, step_tool, tmp_path, name):  # noqa: F811
    model, rows, file = make_adapter(tmp_path, name)
    logits, loss = base.theirs(model, rows)
    loss.backward()
    adapter = tmp_path / "adapter"
    ours = step_tool("logits", adapter, file, tmp_path / "logits.safetensors", *base.PLAIN)
    base.assert_close(ours, {f"logits/{r}": x.detach() for r, x in enumerate(logits)})
    gradients = step_tool("gradients", adapter, file, tmp_path / "gradients.safetensors", *base.PLAIN)
    gradients.pop("flops/recomputed")
    expected = {f"{key}.grad": p.grad for key, p in trained(model).items()}
    base.assert_close(gradients, {**expected, "metric/loss": loss.detach()})
    again = step_tool("gradients", adapter, file, tmp_path / "again.safetensors", *base.PLAIN[:-1],
                      "activation_checkpointing=true")
    assert again.pop("flops/recomputed") > 0
    assert all(torch.equal(again[key], gradients[key]) for key in gradients)

    history = adamw_steps(model, rows, STEPS)
    base.train(tool, adapter, file, tmp_path / "run", *base.PLAIN, f"max_steps={STEPS}", "learning_rate=1e-3",
               "weight_decay=0.1", "max_grad_norm=1", "lr_scheduler_type=constant", "lora_dropout=0",
               f"per_device_train_batch_size={len(rows)}")
    assert steps_of(tmp_path / "run") == [pytest.approx(step, rel=base.TOLERANCE) for step in history]
    loaded = peft.PeftModel.from_pretrained(load_base(tmp_path / "base"), tmp_path / "run", is_trainable=True)
    base.assert_close({key: p.detach() for key, p in trained(loaded).items()},
                      {key: p.detach() for key, p in trained(model).items()})
    ours = step_tool("logits", tmp_path / "run", file, tmp_path / "trained.safetensors", *base.PLAIN)
    base.assert_close(ours, {f"logits/{r}": x.detach() for r, x in enumerate(base.theirs(loaded, rows)[0])})


FRESH = {
    "lora": ["finetuning_type=lora", "lora_r=4"],
    "rslora": ["use_peft=true", "lora_rank=4", "use_rslora=true", "lora_target=q_proj,v_proj"],
    "dora": ["adapter=lora", "lora_r=4", "use_dora=true", "lora_target_modules=all-linear"],
    "patterns": ["finetuning_type=lora", "lora_r=4", "lora_alpha=4", "rank_pattern={q_proj: 2}",
                 "modules_to_save=lm_head"],
}


@pytest.mark.parametrize("name", FRESH)
def test_a_fresh_adapter_starts_as_pefts(tool, tmp_path, name):
    model, rows = base.make_model("llama")
    model.save_pretrained(tmp_path / "base")
    file = base.write_rows(tmp_path / "rows.jsonl", rows)
    base.train(tool, tmp_path / "base", file, tmp_path / "run", *base.PLAIN, *FRESH[name], "max_steps=1",
               "learning_rate=0")
    loaded = peft.PeftModel.from_pretrained(load_base(tmp_path / "base"), tmp_path / "run", is_trainable=True)
    config = loaded.peft_config["default"]
    fresh = peft.get_peft_model(load_base(tmp_path / "base"), config)
    ours, theirs = trained(loaded), trained(fresh)
    assert set(ours) == set(theirs)
    for key, p in ours.items():
        if "lora_A" not in key:
            assert base.off(p.detach(), theirs[key].detach()) < 1e-6, key
            continue
        bound = p.shape[1] ** -0.5
        assert p.abs().max() <= bound and p.abs().max() > 0.9 * bound
        assert abs(p.mean()) < 4 * bound / (3 * p.numel()) ** 0.5
    for x, y in zip(base.theirs(loaded, rows)[0], base.theirs(model, rows)[0]):
        assert base.off(x, y) < base.TOLERANCE
    assert json.loads((tmp_path / "run" / "adapter_config.json").read_text())["base_model_name_or_path"] == str(
        tmp_path / "base")


def test_bf16_with_fp32_adapters_stays_near_peft(tool, tmp_path):
    """One rounding to bf16 is 2^-9 of a value; the loss of a small model moves by less than a hundredth."""
    model, rows, file = make_adapter(tmp_path, "every-linear")
    base.train(tool, tmp_path / "adapter", file, tmp_path / "run", "append_eos=false", "max_steps=4", "lr=1e-3",
               "lr_scheduler_type=constant", "lora_dropout=0", f"per_device_train_batch_size={len(rows)}")
    optimizer = torch.optim.AdamW(trained(model).values(), lr=1e-3, weight_decay=0)
    for ours, _ in steps_of(tmp_path / "run"):
        _, loss = base.theirs(model, rows)
        assert ours == pytest.approx(loss.item(), rel=1e-2)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained(model).values(), 1.0)
        optimizer.step()
    saved = safetensors.torch.load_file(tmp_path / "run" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}


def test_accumulating_resuming_and_evaluating_with_adapters(tool, tmp_path):
    _, rows, file = make_adapter(tmp_path, "dora")
    settings = ["finetuning_type=lora", "lora_r=4", "use_dora=true", "lora_dropout=0.2", "append_eos=false", "lr=1e-2",
                "per_device_train_batch_size=1", "gradient_accumulation_steps=2", f"eval_file={file}", "eval_steps=2",
                "eval_strategy=steps", "save_strategy=steps", "save_steps=2", "activation_checkpointing=true"]

    def train(output, steps, *more):
        done = base.run(tool("snug"), "train", f"model={tmp_path / 'base'}", f"data={file}", f"output_dir={output}",
                        f"max_steps={steps}", "lr_scheduler_type=constant", *settings, *more)
        assert done.returncode == 0, done.stderr

    train(tmp_path / "whole", 4)
    train(tmp_path / "parts", 2)
    train(tmp_path / "parts", 4, "resume_from_checkpoint=true")
    whole, parts = (safetensors.torch.load_file(tmp_path / run / "adapter_model.safetensors")
                    for run in ("whole", "parts"))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    history = json.loads((tmp_path / "whole" / "trainer_state.json").read_text())["log_history"]
    losses = [row["eval_loss"] for row in history if "eval_loss" in row]
    assert losses[-1] < losses[0]
    done = base.run(tool("snug"), "eval", f"model={tmp_path / 'whole'}", f"data={file}", "append_eos=false", "--json",
                    "bf16=false")
    assert json.loads(done.stdout)["eval_loss"] == pytest.approx(losses[-1], rel=1e-2)


@pytest.mark.parametrize("words, message", [
    (["lora_target_modules=query"], "'query' matches no linear layer. There are self_attn.q_proj"),
    (["lora_r=1000"], "its adapter's rank is at most"),
    (["adapter_name_or_path={adapter}", "lora_r=5"], "lora_r=5, but the adapter of"),
    (["adapter_name_or_path={other}"], "has another base or rank"),
    (["adapter_name_or_path={base}"], "holds no adapter"),
])
def test_what_cannot_be_is_refused_before_memory_is_reserved(tool, tmp_path, words, message):
    make_adapter(tmp_path, "lora")
    (tmp_path / "more").mkdir()
    make_adapter(tmp_path / "more", "saved-embedding-of-tied")
    folders = {"adapter": tmp_path / "adapter", "base": tmp_path / "base", "other": tmp_path / "more" / "adapter"}
    done = base.run(tool("snug"), "train", f"model={tmp_path / 'base'}", f"data={tmp_path / 'rows.jsonl'}",
                    f"output_dir={tmp_path / 'run'}", "finetuning_type=lora", *[w.format(**folders) for w in words])
    assert done.returncode == 1
    assert message in done.stderr
    assert not (tmp_path / "run").exists()


def test_unfrozen_parameters_alone_are_trained(tool, tmp_path):
    model, rows = base.make_model("llama")
    model.save_pretrained(tmp_path / "base")
    file = base.write_rows(tmp_path / "rows.jsonl", rows)
    base.train(tool, tmp_path / "base", file, tmp_path / "run", *base.PLAIN, "max_steps=2", "lr=1e-2",
               r"unfrozen_parameters=layers\.1\.mlp,^lm_head")
    before, after = (safetensors.torch.load_file(tmp_path / run / "model.safetensors") for run in ("base", "run"))
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {"lm_head.weight", *(f"model.layers.1.mlp.{part}_proj.weight" for part in ("gate", "up", "down"))}
