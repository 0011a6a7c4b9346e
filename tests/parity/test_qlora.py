"""Adapters over a quantised base are PEFT's over bitsandbytes' weights: loss, gradients, weights after some steps.

Sizes are multiples of 64 and no oracle is evaluated before it trains: see test_quantization.py. In fp32, where only the
order of sums differs, tolerances are those of test_training.py; in bf16 those of test_lora.py.
"""

import json

import peft
import pytest
import safetensors.torch
import test_lora as lora
import test_training as base
import torch
import transformers
from test_training import step_tool  # noqa: F401

SMALL = {**base.SMALL, "hidden_size": 128, "intermediate_size": 192, "num_attention_heads": 4, "num_key_value_heads": 2}
STEPS = 5
# name: what snug is told, what bitsandbytes is told
FORMATS = {
    "nf4": (["load_in_4bit=true"], dict(load_in_4bit=True, bnb_4bit_quant_type="nf4")),
    "nf4-double": (["load_in_4bit=true", "bnb_4bit_use_double_quant=true"],
                   dict(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)),
    "int8": (["load_in_8bit=true"], dict(load_in_8bit=True)),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """plain(family): a folder of fp32 weights."""
    made = {}

    def folder(family):
        if family not in made:
            made[family] = tmp_path_factory.mktemp(family)
            torch.manual_seed(0)
            config = transformers.AutoConfig.for_model(family, **SMALL, attn_implementation="eager")
            model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(3) if parameter.ndim > 1 else parameter.add_(0.2 * torch.randn_like(parameter))
            model.save_pretrained(made[family])
        return made[family]

    return folder


@pytest.fixture(scope="module")
def stored(plain, tmp_path_factory):
    """stored(family, format, dtype): the same quantised and saved by transformers and bitsandbytes."""
    made = {}

    def folder(family, name, dtype):
        key = (family, name, dtype)
        if key not in made:
            made[key] = tmp_path_factory.mktemp("stored")
            options = FORMATS[name][1]
            if "load_in_4bit" in options:
                options = {**options, "bnb_4bit_compute_dtype": dtype}
            model = transformers.AutoModelForCausalLM.from_pretrained(
                plain(family), quantization_config=transformers.BitsAndBytesConfig(**options), dtype=dtype,
                device_map="cpu")
            model.save_pretrained(made[key])
        return made[key]

    return folder


@pytest.fixture(scope="module")
def rows_file(tmp_path_factory):
    rows = base.make_rows(SMALL["vocab_size"], base.ODD)
    return rows, base.write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", rows)


def with_adapter(model, folder, **more):
    """PEFT's adapter, with a B that is not zero, over a model and in a folder."""
    torch.manual_seed(1)
    config = peft.LoraConfig(task_type="CAUSAL_LM", **{**dict(r=4, lora_alpha=8, target_modules="all-linear"), **more})
    model = peft.get_peft_model(model, config)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_B" in key:
                parameter.copy_(0.1 * torch.randn_like(parameter))
            elif "magnitude" in key:
                parameter.mul_(1 + 0.2 * torch.rand_like(parameter))
    model.save_pretrained(folder)
    return model.train()


def load(folder, dtype=torch.float32):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager",
                                                             device_map="cpu")


def dequantised(step_tool, folder, file, out, *settings):  # noqa: F811
    """A plain fp32 model of the values that snug's codes of a folder stand for."""
    values = step_tool("weights", folder, file, out, "bf16=false", *settings)
    config = transformers.AutoConfig.from_pretrained(folder)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    values.setdefault("lm_head.weight", values["model.embed_tokens.weight"])  # where it is tied
    model.load_state_dict({key: values.get(key + ".dequantized", values[key]).reshape(value.shape)
                           for key, value in model.state_dict().items()})
    model.name_or_path = str(folder)  # what PEFT writes as the adapter's base
    return model


def compare_training(tool, step_tool, model, adapter, rows, file, folder, *settings):  # noqa: F811
    """In fp32: logits, loss, gradients, some steps and the weights after them."""
    _, loss = base.theirs(model, rows)
    loss.backward()
    gradients = step_tool("gradients", adapter, file, folder / "gradients.safetensors", *base.PLAIN, *settings)
    gradients.pop("flops/recomputed")
    expected = {f"{key}.grad": p.grad for key, p in lora.trained(model).items()}
    base.assert_close(gradients, {**expected, "metric/loss": loss.detach()})
    again = step_tool("gradients", adapter, file, folder / "again.safetensors", *base.PLAIN[:-1],
                      "activation_checkpointing=true", *settings)
    assert again.pop("flops/recomputed") > 0
    assert all(torch.equal(again[key], gradients[key]) for key in gradients)
    history = lora.adamw_steps(model, rows, STEPS)
    base.train(tool, adapter, file, folder / "run", *base.PLAIN, f"max_steps={STEPS}", "learning_rate=1e-3",
               "weight_decay=0.1", "max_grad_norm=1", "lr_scheduler_type=constant",
               f"per_device_train_batch_size={len(rows)}", *settings)
    assert lora.steps_of(folder / "run") == [pytest.approx(step, rel=base.TOLERANCE) for step in history]
    saved = safetensors.torch.load_file(folder / "run" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}
    base.assert_close({key.removeprefix("base_model.model."): tensor for key, tensor in saved.items()},
                      {key: p.detach() for key, p in lora.trained(model).items()})


@pytest.mark.parametrize("family, name, more", [("llama", "nf4", {}), ("qwen2", "nf4-double", {}),
                                                ("llama", "nf4-double", dict(use_dora=True)), ("qwen2", "int8", {}),
                                                ("llama", "nf4-double", dict(target_modules=["q_proj", "lm_head"])),
                                                ("qwen2", "nf4", dict(modules_to_save=["lm_head"]))])
def test_training_over_codes_equals_training_over_their_values(tool, step_tool, tmp_path, plain, rows_file,  # noqa: F811
                                                               family, name, more):
    rows, file = rows_file
    settings = FORMATS[name][0]
    model = dequantised(step_tool, plain(family), file, tmp_path / "weights.safetensors", *settings)
    model = with_adapter(model, tmp_path / "adapter", **more)
    compare_training(tool, step_tool, model, tmp_path / "adapter", rows, file, tmp_path, *settings)


@pytest.mark.parametrize("family, name", [("llama", "nf4-double"), ("qwen2", "nf4")])
def test_a_folder_of_bitsandbytes_trains_as_in_peft(tool, step_tool, tmp_path, stored, rows_file,  # noqa: F811
                                                    family, name):
    rows, file = rows_file
    folder = stored(family, name, torch.float32)
    model = load(folder)
    linear = model.model.layers[0].mlp.up_proj
    assert type(linear).__name__ == "Linear4bit"
    compare_training(tool, step_tool, with_adapter(model, tmp_path / "adapter"), tmp_path / "adapter", rows, file,
                     tmp_path)


def test_bf16_over_double_quantised_nf4_stays_near_peft(tool, tmp_path, plain, rows_file):
    """bitsandbytes quantises while loading, as snug does; both compute in bf16."""
    rows, file = rows_file
    settings, options = FORMATS["nf4-double"]
    options = transformers.BitsAndBytesConfig(**options, bnb_4bit_compute_dtype=torch.bfloat16)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        plain("llama"), quantization_config=options, dtype=torch.bfloat16, attn_implementation="eager",
        device_map="cpu")
    model = with_adapter(model, tmp_path / "adapter")
    base.train(tool, tmp_path / "adapter", file, tmp_path / "run", "append_eos=false", f"max_steps={STEPS}", "lr=1e-3",
               "lr_scheduler_type=constant", f"per_device_train_batch_size={len(rows)}", *settings)
    history = lora.adamw_steps(model, rows, STEPS)
    assert history[-1][0] < history[0][0] - 0.02
    assert [loss for loss, _ in lora.steps_of(tmp_path / "run")] == [pytest.approx(loss, rel=1e-2) for loss, _ in history]


def snug(tool, *words):
    done = base.run(tool("snug"), *words)
    assert done.returncode == 0, done.stderr
    return done


def evaluate(tool, folder, file, *settings):
    return json.loads(snug(tool, "eval", f"model={folder}", f"data={file}", "append_eos=false", "--json", *settings).stdout)


@pytest.mark.parametrize("name", ["nf4-double", "int8"])
def test_what_follows_a_run_finds_its_base(tool, step_tool, tmp_path, plain, rows_file, name):  # noqa: F811
    """eval, merge, inspect and more training on the adapter folder that a run over a quantised base left."""
    rows, file = rows_file
    settings = FORMATS[name][0]
    common = ["append_eos=false", "bf16=false", "threads=2", "lr=1e-2", "lr_scheduler_type=constant",
              f"per_device_train_batch_size={len(rows)}", "save_strategy=no"]
    done = snug(tool, "train", f"model={plain('llama')}", f"data={file}", f"output_dir={tmp_path / 'run'}", "max_steps=4",
                "finetuning_type=lora", "lora_r=4", f"eval_file={file}", *settings, *common)
    said = done.stdout + done.stderr
    assert ("nf4 base, double quantised" if name == "nf4-double" else "int8 base") in said
    to_evaluate = next(line for line in said.splitlines() if line.startswith(f"  snug eval model_name_or_path={tmp_path / 'run'} "))
    assert set(settings) < set(to_evaluate.split())

    on_codes = evaluate(tool, tmp_path / "run", file, *settings)
    on_weights = evaluate(tool, tmp_path / "run", file)
    assert on_codes["eval_loss"] != on_weights["eval_loss"]
    assert on_codes["planned_peak_bytes"] < on_weights["planned_peak_bytes"]
    model = dequantised(step_tool, plain("llama"), file, tmp_path / "weights.safetensors", *settings)
    model = peft.PeftModel.from_pretrained(model, tmp_path / "run")
    assert on_codes["eval_loss"] == pytest.approx(base.theirs(model, rows)[1].item(), rel=base.TOLERANCE)

    snug(tool, "train", f"model={tmp_path / 'run'}", f"data={file}", f"output_dir={tmp_path / 'more'}", "max_steps=2",
         *settings, *common)
    more = lora.steps_of(tmp_path / "more")
    assert more[0][0] == pytest.approx(on_codes["eval_loss"], rel=base.TOLERANCE)
    assert more[1][0] < more[0][0]

    shown = snug(tool, "inspect", f"model={tmp_path / 'run'}").stdout
    assert "LoRA r 4" in shown and str(plain("llama")) in shown

    snug(tool, "merge", f"model={tmp_path / 'run'}", f"output_dir={tmp_path / 'merged'}")
    assert evaluate(tool, tmp_path / "merged", file)["eval_loss"] == pytest.approx(on_weights["eval_loss"], rel=1e-4)
    snug(tool, "merge", f"model={tmp_path / 'run'}", f"output_dir={tmp_path / 'merged-codes'}", *settings)
    assert evaluate(tool, tmp_path / "merged-codes", file)["eval_loss"] == pytest.approx(on_codes["eval_loss"], rel=1e-4)
    theirs = model.merge_and_unload()
    ours = safetensors.torch.load_file(tmp_path / "merged-codes" / "model.safetensors")
    base.assert_close(ours, {key: p.detach() for key, p in theirs.state_dict().items()})


@pytest.mark.parametrize("name", FORMATS)
def test_merging_into_a_folder_of_bitsandbytes_dequantises_it(tool, step_tool, tmp_path, stored, rows_file,  # noqa: F811
                                                              name):
    rows, file = rows_file
    folder = stored("llama", name, torch.float32)
    model = with_adapter(dequantised(step_tool, folder, file, tmp_path / "weights.safetensors"), tmp_path / "adapter")
    snug(tool, "merge", f"model={folder}", f"adapter_name_or_path={tmp_path / 'adapter'}",
         f"output_dir={tmp_path / 'merged'}")
    assert "quantization_config" not in json.loads((tmp_path / "merged" / "config.json").read_text())
    ours = load(tmp_path / "merged")
    theirs = model.merge_and_unload()
    tolerance = 1e-6 if name != "int8" else 2 ** -11  # what int8 left in fp16 is rounded to fp16
    base.assert_close(dict(ours.state_dict()), {key: p.detach() for key, p in theirs.state_dict().items()}, tolerance)


def test_generating_over_codes_says_what_peft_says_over_their_values(tool, step_tool, tmp_path):  # noqa: F811
    snug(tool, "demo", "make", f"output_dir={tmp_path / 'demo'}")
    folder, file = tmp_path / "demo" / "model", tmp_path / "demo" / "train.jsonl"
    settings = FORMATS["nf4-double"][0]
    snug(tool, "train", f"model={folder}", f"data={file}", f"output_dir={tmp_path / 'run'}", "adapter=qlora", "lora_r=8",
         "bnb_4bit_use_double_quant=true", "max_steps=20", "lr=1e-2", "save_strategy=no")
    said = json.loads(snug(tool, "generate", f"model={tmp_path / 'run'}", "prompt=sort planet =", "max_new_tokens=8",
                           "bf16=false", "--json", *settings).stdout)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = dequantised(step_tool, folder, file, tmp_path / "weights.safetensors", *settings)
    model = peft.PeftModel.from_pretrained(model, tmp_path / "run").eval()
    ids = tokenizer("sort planet =", return_tensors="pt").input_ids
    theirs = model.generate(input_ids=ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1]:]
    assert said["token_ids"] == theirs.tolist()
    assert said["planned_peak_bytes"] == said["used_peak_bytes"]
