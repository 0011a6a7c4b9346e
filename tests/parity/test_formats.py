"""Files and configs that the real packages wrote are read equal, and those that snug wrote are read equal by them."""

import json
import subprocess

import pytest
import safetensors
import safetensors.torch
import torch
import transformers

SMALL = dict(hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=3,
             vocab_size=131, max_position_embeddings=64, bos_token_id=1, eos_token_id=2)
LLAMA3 = dict(rope_type="llama3", rope_theta=5e5, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=16)
FAMILIES = ["llama", "mistral", "qwen2", "qwen3"]
CONFIGS = {
    "llama": ("llama", {}),
    "llama-tied-biased": ("llama", dict(attention_bias=True, mlp_bias=True, tie_word_embeddings=True, head_dim=10)),
    "llama-llama3": ("llama", dict(rope_parameters=LLAMA3, eos_token_id=[2, 5], dtype="bfloat16")),
    "llama-linear": ("llama", dict(rope_parameters=dict(rope_type="linear", factor=2.5, rope_theta=2e4))),
    "mistral-window": ("mistral", dict(sliding_window=16, dtype="float16")),
    "mistral": ("mistral", dict(sliding_window=None, head_dim=16)),
    "qwen2": ("qwen2", dict(tie_word_embeddings=True, rms_norm_eps=1e-5)),
    "qwen2-window": ("qwen2", dict(use_sliding_window=True, sliding_window=8, max_window_layers=1)),
    "qwen3": ("qwen3", dict(head_dim=12, pad_token_id=0)),
    "qwen3-biased-window": ("qwen3", dict(attention_bias=True, use_sliding_window=True, sliding_window=8, head_dim=16,
                                          layer_types=["sliding_attention", "full_attention", "sliding_attention"])),
}
# What transformers keeps for its own bookkeeping, and what snug writes only where the family's model reads it.
NOT_COMPARED = {"_name_or_path", "architectures", "transformers_version", "max_window_layers"}


@pytest.fixture(scope="module")
def formats(tool):
    def run(*words):
        done = subprocess.run([tool("formats_tool"), *map(str, words)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def transformers_config(name):
    family, changes = CONFIGS[name]
    return transformers.AutoConfig.for_model(family, **{**SMALL, **changes})


def facts(config):
    """What a config says, as JSON spells it, without keys that are null."""
    return {key: value for key, value in json.loads(config.to_json_string(use_diff=False)).items()
            if value is not None and key not in NOT_COMPARED}


def test_a_safetensors_file_is_copied_byte_for_byte(formats, tmp_path):
    types = [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.int32, torch.int8,
             torch.uint8]
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for i, dtype in enumerate(types):
        for shape in [(), (3,), (2, 5), (0, 4), (1, 2, 3)]:
            values = torch.randint(0, 100, shape, generator=generator)
            tensors[f"{'zyx'[i % 3]}.\"{i}\"-ü.{len(shape)}{shape[:1]}"] = values.to(dtype)
    safetensors.torch.save_file(tensors, tmp_path / "theirs.safetensors", metadata={"format": "pt"})
    formats("copy", tmp_path / "theirs.safetensors", tmp_path / "ours.safetensors")
    assert (tmp_path / "ours.safetensors").read_bytes() == (tmp_path / "theirs.safetensors").read_bytes()
    with safetensors.safe_open(tmp_path / "ours.safetensors", "pt") as ours:
        assert ours.metadata() == {"format": "pt"}
        for name, tensor in tensors.items():
            assert torch.equal(ours.get_tensor(name), tensor) and ours.get_tensor(name).dtype == tensor.dtype


@pytest.mark.parametrize("shard_bytes", [10**9, 40_000])
@pytest.mark.parametrize("name", ["llama-tied-biased", "mistral", "qwen2-window", "qwen3"])
def test_model_folders_load_with_equal_weights(formats, tmp_path, name, shard_bytes):
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_config(transformers_config(name)).to(torch.bfloat16)
    model.save_pretrained(tmp_path / "theirs", max_shard_size="30KB")
    assert len(list((tmp_path / "theirs").glob("model-*.safetensors"))) > 1
    formats("copy-folder", tmp_path / "theirs", tmp_path / "ours", shard_bytes)
    assert (tmp_path / "ours" / "model.safetensors").exists() == (shard_bytes == 10**9)
    loaded, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert loaded.dtype == torch.bfloat16
    theirs, ours = model.state_dict(), loaded.state_dict()
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[key], ours[key]) for key in theirs)
    if shard_bytes != 10**9:
        index = json.loads((tmp_path / "ours" / "model.safetensors.index.json").read_text())
        their_index = json.loads((tmp_path / "theirs" / "model.safetensors.index.json").read_text())
        assert index["metadata"] == their_index["metadata"]
        assert index["weight_map"].keys() == their_index["weight_map"].keys()


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_keep_their_meaning(formats, tmp_path, name):
    theirs = transformers_config(name)
    theirs.save_pretrained(tmp_path)
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "config.json").write_text(formats("config", tmp_path))
    ours = transformers.AutoConfig.from_pretrained(tmp_path / "ours")
    expected = facts(theirs)
    got = facts(ours)
    if "head_dim" not in expected:  # Qwen2 has the key only where a file gives it
        assert got.pop("head_dim") == theirs.hidden_size // theirs.num_attention_heads
    assert got == expected
    # And a second pass changes nothing.
    assert formats("config", tmp_path / "ours") == (tmp_path / "ours" / "config.json").read_text()


@pytest.mark.parametrize("family", FAMILIES)
def test_absent_keys_take_the_same_defaults(formats, tmp_path, family):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    theirs = facts(transformers.AutoConfig.for_model(family))
    ours = json.loads(formats("config", tmp_path))
    for key, value in ours.items():
        if key in ("architectures", "max_window_layers") or value is None:
            continue
        if family == "qwen2" and key == "head_dim":
            assert value == theirs["hidden_size"] // theirs["num_attention_heads"]
            continue
        assert theirs[key] == value, key
    for key in ("bos_token_id", "eos_token_id", "pad_token_id", "sliding_window"):
        assert ours.get(key) == theirs.get(key), key


def test_both_spellings_read_as_transformers_reads_them(formats, tmp_path):
    old = dict(model_type="llama", **SMALL, rope_theta=1e6, torch_dtype="float16",
               rope_scaling={key: value for key, value in LLAMA3.items() if key != "rope_theta"})
    (tmp_path / "config.json").write_text(json.dumps(old))
    theirs = facts(transformers.AutoConfig.from_pretrained(tmp_path))
    ours = json.loads(formats("config", tmp_path))
    assert ours["rope_parameters"] == theirs["rope_parameters"]
    assert ours["dtype"] == theirs["dtype"] == "float16"


def test_generation_config_loads(formats, tmp_path):
    transformers_config("llama-llama3").save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text(formats("generation-config", tmp_path))
    loaded = transformers.GenerationConfig.from_pretrained(tmp_path)
    assert (loaded.bos_token_id, loaded.eos_token_id, loaded.pad_token_id) == (1, [2, 5], None)


def test_shapes_have_the_parameters_that_transformers_counts(formats, tmp_path):
    """Counted on models of two layers and of one: the difference is a layer."""
    for name in formats("shapes").split():
        (tmp_path / "config.json").write_text(formats("shape", name))
        counts = []
        for layers in (1, 2):
            config = transformers.AutoConfig.from_pretrained(tmp_path)
            total_layers, config.num_hidden_layers = config.num_hidden_layers, layers
            with torch.device("meta"):
                model = transformers.AutoModelForCausalLM.from_config(config)
            counts.append(sum(p.numel() for p in model.parameters()))
        expected = counts[0] + (total_layers - 1) * (counts[1] - counts[0])
        assert int(formats("count", name)) == expected, name
