"""PEFT's adapter folders: each field of their config, and each tensor, counts as in PEFT or is refused by name."""

import dataclasses
import json

import peft
import pytest
import safetensors.torch
import test_qlora
import test_training as base
import torch
import transformers
from test_stored_models import edit, evaluate, load, made, read, snug  # noqa: F401
from test_training import step_tool  # noqa: F401


def with_adapter(folder, adapter, **arguments):
    """PEFT's adapter over a folder, with a B that is not zero, saved."""
    torch.manual_seed(1)
    model = peft.get_peft_model(load(folder), peft.LoraConfig(task_type="CAUSAL_LM", **{"r": 4, **arguments}))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_B" in key or "lora_embedding_B" in key:
                parameter.copy_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(adapter)
    return model.eval()


def loss_in_peft(folder, adapter, rows):
    with torch.no_grad():
        return base.theirs(peft.PeftModel.from_pretrained(load(folder), adapter).eval(), rows)[1].item()


def refusals(tool, adapter, file, output):
    """What eval, merge and training say of an adapter that they refuse."""
    merged = output.with_name("merged")
    said = [snug(tool, *words, status=1).stderr for words in (
        ["eval", f"model={adapter}", f"data={file}"], ["merge", f"model={adapter}", f"output_dir={merged}"],
        ["train", f"model={adapter}", f"data={file}", f"output_dir={output}", "max_steps=1"])]
    assert not merged.exists()
    return said


# init_lora_weights

@pytest.mark.parametrize("start", [True, False, "gaussian", "Gaussian", "orthogonal", "eva", "lora_ga"])
def test_starts_that_leave_the_base_alone_load(tool, made, tmp_path, start):  # noqa: F811
    folder, rows, file = made
    with_adapter(folder, tmp_path / "adapter", target_modules=["q_proj"])
    edit(tmp_path / "adapter" / "adapter_config.json", init_lora_weights=start)
    expected = loss_in_peft(folder, tmp_path / "adapter", rows)
    assert evaluate(tool, tmp_path / "adapter", file)[0] == pytest.approx(expected, rel=base.TOLERANCE)


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "olora", "Olora", "loftq", "corda", "mica", "something-new"])
def test_starts_that_change_the_base_are_refused_by_name(tool, made, tmp_path, start):  # noqa: F811
    folder, rows, file = made
    model = with_adapter(folder, tmp_path / "adapter", target_modules="all-linear")
    edit(tmp_path / "adapter" / "adapter_config.json", init_lora_weights=start)
    if start.lower().startswith(("pissa", "olora")):  # PEFT changes what the model computes
        plain = base.theirs(model, rows)[1].item()
        assert abs(loss_in_peft(folder, tmp_path / "adapter", rows) - plain) > 1e-3 * plain
    # One place reads the config for every verb.
    said = refusals(tool, tmp_path / "adapter", file, tmp_path / "out") if start == "pissa" else [
        snug(tool, "eval", f"model={tmp_path / 'adapter'}", f"data={file}", status=1).stderr]
    assert all(f'init_lora_weights is "{start}"' in text for text in said)


# Every field

READ = {"alpha_pattern", "base_model_name_or_path", "exclude_modules", "layers_pattern", "layers_to_transform", "lora_alpha",
        "lora_dropout", "modules_to_save", "r", "rank_pattern", "target_modules", "use_dora", "use_rslora"}
NO_EFFECT = {"auto_mapping", "corda_config", "eva_config", "inference_mode", "loftq_config", "lora_ga_config", "megatron_core",
             "peft_version", "qalora_group_size", "revision", "runtime_config"}
REFUSED = {"alora_invocation_tokens": [1], "arrow_config": {"top_k": 1}, "bias": "all", "ensure_weight_tying": True,
           "fan_in_fan_out": True, "init_lora_weights": "pissa", "kasa_config": {"beta": 1}, "layer_replication": [[0, 1]],
           "lora_bias": True, "megatron_config": {"a": 1}, "monteclora_config": {"a": 1}, "peft_type": "IA3",
           "target_parameters": ["a.b"], "task_type": "SEQ_CLS", "trainable_token_indices": [1], "use_bdlora": {"a": 1},
           "use_qalora": True, "velora_config": {"a": 1}}


def test_every_field_of_peft_counts_has_no_effect_or_is_refused(tool, made, tmp_path):  # noqa: F811
    folder, _, file = made
    with_adapter(folder, tmp_path / "adapter", target_modules=["q_proj"])
    config = tmp_path / "adapter" / "adapter_config.json"
    text = config.read_text()
    fields = {field.name for field in dataclasses.fields(peft.LoraConfig)} | set(json.loads(text))
    assert fields == READ | NO_EFFECT | set(REFUSED)

    def said_of(key, value):
        config.write_text(json.dumps({**json.loads(text), key: value}))
        return base.run(tool("snug"), "eval", f"model={tmp_path / 'adapter'}", f"data={file}", "append_eos=false")

    plain = said_of("r", 4)
    assert plain.returncode == 0, plain.stderr
    for key in NO_EFFECT:
        assert said_of(key, {"a": 1}).stdout == plain.stdout, key
    for key, value in REFUSED.items():
        assert f"{key} is {json.dumps(value, separators=(',', ':'))}" in said_of(key, value).stderr, key
    assert "something_new is 1, which snug does not know" in said_of("something_new", 1).stderr
    assert said_of("something_new", None).stdout == plain.stdout


EXCLUDED = {"names": (["q_proj", "v_proj", "up_proj"], ["layers.1.self_attn.q_proj", "up_proj"]),
            "expression": (["q_proj", "v_proj"], r".*layers\.0\..*"),
            "all-linear": ("all-linear", ["o_proj", "mlp.down_proj"]),
            "text-of-no-module": (["q_proj", "v_proj"], "v_proj"),
            "saved": (["q_proj", "o_proj"], None)}


@pytest.mark.parametrize("name", EXCLUDED)
def test_excluded_modules_get_no_adapter(tool, made, tmp_path, name):  # noqa: F811
    folder, rows, file = made
    targets, excluded = EXCLUDED[name]
    saved = ["o_proj"] if name == "saved" else None
    with_adapter(folder, tmp_path / "adapter", target_modules=targets, exclude_modules=excluded, modules_to_save=saved)
    expected = loss_in_peft(folder, tmp_path / "adapter", rows)
    assert evaluate(tool, tmp_path / "adapter", file)[0] == pytest.approx(expected, rel=base.TOLERANCE)
    snug(tool, "merge", f"model={tmp_path / 'adapter'}", f"output_dir={tmp_path / 'merged'}")
    assert base.theirs(load(tmp_path / "merged").eval(), rows)[1].item() == pytest.approx(expected, rel=base.TOLERANCE)
    # Trained on, it is the same modules in a folder that PEFT reads.
    base.train(tool, tmp_path / "adapter", file, tmp_path / "run", *base.PLAIN, "max_steps=2", "learning_rate=1e-2")
    ours, theirs = (safetensors.torch.load_file(tmp_path / place / "adapter_model.safetensors") for place in ("run", "adapter"))
    assert set(ours) == set(theirs)
    assert evaluate(tool, tmp_path / "run", file)[0] == pytest.approx(loss_in_peft(folder, tmp_path / "run", rows),
                                                                      rel=base.TOLERANCE)


# Tensors

def test_adapters_of_embeddings_are_refused_as_such(tool, made, tmp_path):  # noqa: F811
    folder, _, file = made
    with_adapter(folder, tmp_path / "adapter", target_modules=["q_proj", "embed_tokens"])
    for said in refusals(tool, tmp_path / "adapter", file, tmp_path / "out"):
        assert "embedding" in said and "linear layers" in said and "another base" not in said


@pytest.mark.parametrize("name, arguments, options", [
    ("base_model.model.lm_head.base_layer.weight", dict(target_modules=["q_proj", "lm_head"]), {}),
    ("base_model.model.lm_head.weight", dict(target_modules=["q_proj"]), dict(save_embedding_layers=True)),
    ("base_model.model.model.embed_tokens.weight", dict(target_modules=["q_proj"]), dict(save_embedding_layers=True)),
])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_weights_of_the_base_in_an_adapter_must_be_the_bases(tool, made, tmp_path, name, arguments, options, dtype):  # noqa: F811
    folder, rows, file = made
    adapter, path = tmp_path / "adapter", tmp_path / "adapter" / "adapter_model.safetensors"
    with_adapter(folder, adapter, **arguments).save_pretrained(adapter, **options)
    tensors = safetensors.torch.load_file(path)
    safetensors.torch.save_file({**tensors, name: tensors[name].to(dtype)}, path, metadata={"format": "pt"})
    expected = loss_in_peft(folder, adapter, rows)
    tolerance = base.TOLERANCE if dtype == torch.float32 else 1e-2  # PEFT takes the rounded weight
    assert evaluate(tool, adapter, file)[0] == pytest.approx(expected, rel=tolerance)
    snug(tool, "merge", f"model={adapter}", f"output_dir={tmp_path / 'whole'}")
    safetensors.torch.save_file({**tensors, name: (tensors[name] * 1.5).to(dtype)}, path, metadata={"format": "pt"})
    assert abs(loss_in_peft(folder, adapter, rows) - expected) > 1e-3 * expected
    for said in refusals(tool, adapter, file, tmp_path / "out"):
        assert f"'{name}' replaces the base's" in said and "has other values" in said


# Quantised bases

@pytest.mark.parametrize("name", ["nf4-double", "int8"])
def test_a_plain_base_has_the_same_codes_in_every_verb(tool, step_tool, tmp_path, name):  # noqa: F811
    """Whatever type a verb computes in: training in bf16 over an fp32 base has the levels that merge writes out."""
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model("llama", **test_qlora.SMALL)
    transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(tmp_path / "model")
    rows = base.write_rows(tmp_path / "rows.jsonl", base.make_rows(test_qlora.SMALL["vocab_size"], base.ODD))
    settings = test_qlora.FORMATS[name][0]
    in_bf16, in_fp32 = (step_tool("weights", tmp_path / "model", rows, tmp_path / choice, choice, *settings)
                        for choice in ("bf16=true", "bf16=false"))
    codes = [key for key in in_fp32 if in_fp32[key].dtype in (torch.uint8, torch.int8)]
    assert codes
    assert all(torch.equal(in_bf16[key], in_fp32[key]) for key in codes)
    base.train(tool, tmp_path / "model", rows, tmp_path / "run", "max_steps=1", "learning_rate=1e-30", "finetuning_type=lora",
               "lora_r=4", *settings)
    snug(tool, "merge", f"model={tmp_path / 'run'}", f"output_dir={tmp_path / 'merged'}", *settings)
    merged = read(tmp_path / "merged")
    compared = [key for key in merged if f"{key}.dequantized" in in_fp32]
    assert len(compared) == 2 * 7
    for key in compared:  # B is 0
        assert torch.equal(merged[key], in_fp32[f"{key}.dequantized"].reshape(merged[key].shape)), key
