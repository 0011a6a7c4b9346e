"""merge is PEFT's merge_and_unload, to the rounding of the base's type, in little memory."""

import json
import resource
import subprocess

import peft
import pytest
import safetensors.torch
import test_lora
import test_training as base
import torch
import transformers

MEBIBYTE = 1 << 20


def merge(tool, adapter, output, *words, **limits):
    done = subprocess.run([tool("snug"), "merge", f"model={adapter}", f"output_dir={output}", "--json", *words],
                          capture_output=True, text=True, timeout=300, **limits)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", test_lora.VARIANTS)
def test_merging_equals_peft(tool, tmp_path, name):
    model, rows, _ = test_lora.make_adapter(tmp_path, name)
    merge(tool, tmp_path / "adapter", tmp_path / "merged")
    logits = [x.detach() for x in base.theirs(model.eval(), rows)[0]]
    ours = test_lora.load_base(tmp_path / "merged")
    for x, y in zip(base.theirs(ours, rows)[0], logits):
        assert base.off(x.detach(), y) < 1e-5
    theirs = model.merge_and_unload()
    base.assert_close({key: p.detach() for key, p in ours.state_dict().items()},
                      {key: p.detach() for key, p in theirs.state_dict().items()}, 1e-6)


def test_the_logits_difference_is_that_of_the_two_models(tool, tmp_path):
    """In bf16, where merging rounds; both models' logits by transformers in fp32 arithmetic on the stored values."""
    model, rows, _ = test_lora.make_adapter(tmp_path, "lora")
    stored = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.bfloat16)
    stored.save_pretrained(tmp_path / "base")
    data = tmp_path / "samples.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    said = merge(tool, tmp_path / "adapter", tmp_path / "merged", f"data={data}", "bf16=false")["logits"]
    apart = peft.PeftModel.from_pretrained(test_lora.load_base(tmp_path / "base"), tmp_path / "adapter").eval()
    together = test_lora.load_base(tmp_path / "merged").eval()
    with torch.no_grad():
        pairs = [[m(torch.tensor([row["input_ids"]])).logits[0, -1] for m in (apart, together)] for row in rows[:8]]
    differences = torch.stack([(a - b).abs() for a, b in pairs])
    assert said["samples"] == len(pairs)
    assert said["mean"] == pytest.approx(differences.mean().item(), rel=1e-2)
    assert said["largest"] == pytest.approx(differences.max().item(), rel=1e-2)
    assert said["typical"] == pytest.approx(torch.stack([a for a, _ in pairs]).square().mean().sqrt().item(), rel=1e-4)
    assert said["same_choices"] == sum((a.argmax() == b.argmax()).item() for a, b in pairs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["lora", "dora-biased"])
def test_sums_are_rounded_once(tool, tmp_path, name, dtype):
    model, _, _ = test_lora.make_adapter(tmp_path, name)
    stored = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=dtype)
    stored.save_pretrained(tmp_path / "base")
    merge(tool, tmp_path / "adapter", tmp_path / "merged")
    exact = peft.PeftModel.from_pretrained(test_lora.load_base(tmp_path / "base"), tmp_path / "adapter")
    expected = exact.merge_and_unload().state_dict()
    ours = safetensors.torch.load_file(tmp_path / "merged" / "model.safetensors")
    assert set(ours) == set(expected)
    for key, tensor in ours.items():
        assert tensor.dtype == dtype
        # The nearest value but for ties of the fp32 sum's own last bits.
        wrong = (tensor != expected[key].to(dtype)).float().mean()
        assert wrong < 2e-3 and base.off(tensor.float(), expected[key]) < torch.finfo(dtype).eps, key


def test_merging_needs_two_tensors_of_memory(tool, tmp_path):
    """Anonymous memory is limited by the system to less than the model's size, files are mapped."""
    config = transformers.AutoConfig.for_model("llama", hidden_size=1024, intermediate_size=4096, num_hidden_layers=6,
                                               num_attention_heads=8, num_key_value_heads=8, vocab_size=8192)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(tmp_path / "base", max_shard_size="100MB")
    model = peft.get_peft_model(test_lora.load_base(tmp_path / "base"),
                                peft.LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    model.save_pretrained(tmp_path / "adapter")
    total = sum(file.stat().st_size for file in (tmp_path / "base").glob("*.safetensors"))
    largest = 8192 * 1024 * 4
    limit = 2 * largest + 64 * MEBIBYTE  # two of the largest tensors; threads' stacks, libraries, buffers
    assert total > 3 * limit
    result = merge(tool, tmp_path / "adapter", tmp_path / "merged",
                   preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)))
    assert result["merged"] == 6 * 7
    assert result["peak_rss_bytes"] < limit
    assert test_lora.load_base(tmp_path / "merged").num_parameters() == model.get_base_model().num_parameters() - sum(
        p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("words, message", [
    (["model={base}"], "merge needs an adapter"),
    (["model={adapter}", "output_dir={base}"], "is there already"),
    (["model={other}", "adapter_name_or_path={adapter}"], "has no 'model.layers.1.self_attn.q_proj.weight'"),
])
def test_what_cannot_be_merged_is_refused(tool, tmp_path, words, message):
    test_lora.make_adapter(tmp_path, "lora")
    config = transformers.AutoConfig.for_model("llama", **{**base.SMALL, "num_hidden_layers": 1})
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "other")
    folders = {name: tmp_path / name for name in ("adapter", "base", "other")}
    done = base.run(tool("snug"), "merge", f"output_dir={tmp_path / 'merged'}",
                    *[word.format(**folders) for word in words])
    assert done.returncode == 1
    assert message in done.stderr
    assert not (tmp_path / "merged").exists()
