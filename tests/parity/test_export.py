"""`snug export`: folders that transformers loads, GGUF files as the gguf package reads them."""

import hashlib
import json
import shutil
import subprocess

import export_models
import gguf
import numpy
import pytest
import safetensors
import safetensors.torch
import tokenizer_shapes
import torch
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
GGUF_TYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", "q8_0": "Q8_0"}
FILE_TYPES = {"F32": 0, "F16": 1, "Q8_0": 7, "BF16": 32}
MODULES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}  # fmt: skip


@pytest.fixture(scope="module", params=export_models.MODELS)
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / request.param
    folder.mkdir()
    return request.param, folder, *export_models.make(request.param, folder)


def export(tool, model, output, *changes, status=0):
    words = ["export", f"model={model}", f"output_dir={output}", *changes, "--json"]
    done = subprocess.run([tool("snug"), *map(str, words)], capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout)


def refusal(tool, model, output, *changes):
    return export(tool, model, output, *changes, status=1)["error"]["message"]


@pytest.mark.parametrize("dtype", ["auto", *TYPES])
def test_folders_load_with_the_rounded_weights(tool, tmp_path, made, dtype):
    name, folder, model, _ = made
    target = model.dtype if dtype == "auto" else TYPES[dtype]
    report = export(tool, folder, tmp_path / "out", f"export_dtype={dtype}", "max_shard_size=40KB")
    files = sorted((tmp_path / "out").glob("model-*.safetensors"))
    assert len(files) > 1 and report["type"] == GGUF_TYPES[target] and report["notes"] == []
    assert report["bytes"] == sum(file.stat().st_size for file in (tmp_path / "out").iterdir())
    loaded, about = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(about[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert loaded.dtype == target
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value.to(target)), key
    stored = set()
    for file in files:
        with safetensors.safe_open(file, "pt") as shard:
            assert not stored & set(shard.keys())
            stored |= set(shard.keys())
    assert ("lm_head.weight" in stored) != model.config.tie_word_embeddings
    before, after = (json.loads((place / "config.json").read_text()) for place in (folder, tmp_path / "out"))
    assert {**before, "dtype": after["dtype"]} == after and after["dtype"] == str(target).removeprefix("torch.")
    for file in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (tmp_path / "out" / file).read_bytes() == (folder / file).read_bytes()


def gguf_name(name):
    module, _, kind = name.rpartition(".")
    if not name.startswith("model.layers."):
        return f"{MODULES[module]}.{kind}"
    _, _, layer, module = module.split(".", 3)
    return f"blk.{layer}.{MODULES[module]}.{kind}"


def llama_rows(tensor, heads):
    """Each head's halves of rows, interleaved."""
    shape = tensor.shape
    return tensor.reshape(heads, 2, shape[0] // heads // 2, -1).transpose(1, 2).reshape(shape)


def expected_tensors(model, kind):
    config = model.config
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if config.model_type in ("llama", "mistral") and (".q_proj." in name or ".k_proj." in name):
            tensor = llama_rows(tensor, config.num_attention_heads if ".q_proj." in name else config.num_key_value_heads)
        own = kind
        if tensor.dim() == 1:
            own = "F32"
        elif kind == "Q8_0" and tensor.shape[-1] % 32:
            own = "F16"
        own = gguf.GGMLQuantizationType[own]
        if own == gguf.GGMLQuantizationType.BF16:
            data = tensor.to(torch.bfloat16).view(torch.uint8).numpy()
        else:
            data = gguf.quants.quantize(tensor.float().numpy(), own)
        yield gguf_name(name), own, list(tensor.shape), data


@pytest.mark.parametrize("dtype", ["auto", "fp32", "fp16", "bf16", "q8_0"])
def test_gguf_tensors_are_exact(tool, tmp_path, made, dtype):
    name, folder, model, _ = made
    kind = GGUF_TYPES[model.dtype if dtype == "auto" else TYPES.get(dtype, dtype)]
    report = export(tool, folder, tmp_path, "export_format=gguf", f"export_dtype={dtype}")
    path = tmp_path / f"{name}-{kind}.gguf"
    assert report["path"] == str(path) and report["bytes"] == path.stat().st_size
    assert list(tmp_path.iterdir()) == [path]
    reader = gguf.GGUFReader(path)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert reader.get_field("general.file_type").contents() == FILE_TYPES[kind]
    for at in tensors.values():
        assert at.data_offset % 32 == 0
    if model.config.rope_parameters["rope_type"] == "llama3":
        scaled, plain = (ROPE_INIT_FUNCTIONS["llama3"](model.config, "cpu")[0],
                         model.config.rope_parameters["rope_theta"] ** -(torch.arange(0, 16, 2) / 16))
        divisors = torch.from_numpy(tensors.pop("rope_freqs.weight").data.copy())
        assert divisors.dtype == torch.float32
        torch.testing.assert_close(divisors, plain / scaled, rtol=1e-6, atol=0)
    for key, own, shape, data in expected_tensors(model, kind):
        tensor = tensors.pop(key)
        assert tensor.tensor_type == own and list(tensor.shape) == shape[::-1], key
        assert tensor.data.tobytes() == data.tobytes(), key
    assert not tensors


def token_types(name, tokenizer, size):
    """What each id is: 1 ordinary, 2 unknown, 3 special, 4 added, 5 unused, 6 a byte."""
    added = tokenizer.get_added_tokens_decoder()
    for i in range(size):
        token = tokenizer.id_to_token(i)
        if token is None:
            yield f"[PAD{i}]", 5
        elif name in ("llama-spm", "mistral") and token == "<unk>":
            yield token, 2
        elif i in added:
            yield token, 3 if added[i].special else 4
        elif token.startswith("<0x") and token.endswith(">") and len(token) == 6:
            yield token, 6
        else:
            yield token, 1


def test_gguf_metadata_is_exact(tool, tmp_path, made):
    name, folder, model, tokenizer = made
    export(tool, folder, tmp_path, "export_format=gguf")
    fields = gguf.GGUFReader(next(tmp_path.iterdir())).fields
    found = {key: field.contents() for key, field in fields.items() if not key.startswith("GGUF.")}
    config = model.config
    family = "llama" if config.model_type == "mistral" else config.model_type
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    single = {
        "general.architecture": family, "general.type": "model", "general.name": name,
        "general.file_type": FILE_TYPES[GGUF_TYPES[model.dtype]], "general.quantization_version": 2,
        f"{family}.vocab_size": config.vocab_size, f"{family}.context_length": config.max_position_embeddings,
        f"{family}.embedding_length": config.hidden_size, f"{family}.block_count": config.num_hidden_layers,
        f"{family}.feed_forward_length": config.intermediate_size,
        f"{family}.attention.head_count": config.num_attention_heads,
        f"{family}.attention.head_count_kv": config.num_key_value_heads,
        f"{family}.attention.key_length": head_dim, f"{family}.attention.value_length": head_dim,
        f"{family}.attention.layer_norm_rms_epsilon": numpy.float32(config.rms_norm_eps),
        f"{family}.rope.dimension_count": head_dim,
        f"{family}.rope.freq_base": numpy.float32(config.rope_parameters["rope_theta"]),
        "tokenizer.chat_template": export_models.TEMPLATE, "tokenizer.ggml.eos_token_id": config.eos_token_id,
        "tokenizer.ggml.add_bos_token": name in ("llama", "llama-spm", "mistral"), "tokenizer.ggml.add_eos_token": False,
    }  # fmt: skip
    if config.rope_parameters["rope_type"] == "linear":
        single |= {f"{family}.rope.scaling.type": "linear", f"{family}.rope.scaling.factor": 2.5}
    if config.bos_token_id is not None:
        single["tokenizer.ggml.bos_token_id"] = config.bos_token_id
    tokens, types = zip(*token_types(name, tokenizer, config.vocab_size), strict=True)
    lists = {"tokenizer.ggml.tokens": list(tokens), "tokenizer.ggml.token_type": list(types)}
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    if name in ("llama-spm", "mistral"):
        ranks = {token: -float(i) for i, token in enumerate(dict.fromkeys(a + b for a, b in merges))}
        lists["tokenizer.ggml.scores"] = [ranks.get(token, -1e6) for token in tokens]
        single |= {"tokenizer.ggml.model": "llama", "tokenizer.ggml.pre": "default",
                   "tokenizer.ggml.add_space_prefix": name == "llama-spm"}
    else:
        pre = {"llama": "llama-bpe", "llama-biased": "smollm"}.get(name, "qwen2")
        lists["tokenizer.ggml.merges"] = [f"{a} {b}" for a, b in merges]
        single |= {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": pre}
    assert found == single | lists


def test_transformers_reads_the_gguf_file_back(tool, tmp_path, made):
    name, folder, model, _ = made
    if name in ("mistral", "qwen3"):
        pytest.skip("transformers 5.23 takes Llama's files with 'mistral' in their name for another model's, and reads no "
                    "head_dim for Qwen3")
    export(tool, folder, tmp_path, "export_format=gguf", "export_dtype=fp32")
    file = next(tmp_path.iterdir())
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=file.name, dtype=torch.float32)
    theirs = loaded.state_dict()
    for key, value in model.state_dict().items():
        if name == "llama-biased" and key.endswith(".bias"):
            continue  # transformers 5.23 reads no biases for Llama
        assert torch.equal(theirs[key], value.float()), key


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "llama"
    folder.mkdir()
    export_models.make("llama", folder)
    return folder


def change_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_template_of_its_own_and_named_ones(tool, tmp_path, model):
    named = [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]
    change_json(model / "tokenizer_config.json", chat_template=named)
    (model / "chat_template.jinja").write_text("own")
    report = export(tool, model, tmp_path / "out", "export_format=gguf")
    fields = gguf.GGUFReader(report["path"]).fields
    assert fields["tokenizer.chat_template"].contents() == "own"
    assert fields["tokenizer.chat_template.tool_use"].contents() == "b"
    assert fields["tokenizer.chat_templates"].contents() == ["tool_use"]


def test_what_is_left_out_or_differs_is_said(tool, tmp_path, model):
    weights = safetensors.torch.load_file(model / "model.safetensors")
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)  # transformers says nothing of it either
    weights["model.extra.weight"] = torch.ones(8)
    safetensors.torch.save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    data = json.loads((model / "tokenizer.json").read_text())
    data["normalizer"] = {"type": "NFC"}
    data["added_tokens"][0]["lstrip"] = True
    (model / "tokenizer.json").write_text(json.dumps(data))
    notes = export(tool, model, tmp_path / "out", "export_format=gguf")["notes"]
    assert [any(word in note for note in notes) for word in ("NFC", "lstrip", "model.extra")] == [True] * 3
    assert len(notes) == 3


def test_numbers_that_the_type_cannot_hold_are_refused(tool, tmp_path, model):
    weights = safetensors.torch.load_file(model / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 5] = -70000.0
    safetensors.torch.save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    for form in ("gguf", "safetensors"):
        message = refusal(tool, model, tmp_path / form, f"export_format={form}", "export_dtype=fp16")
        assert "model.layers.1.mlp.up_proj.weight" in message and "-70144" in message and "bf16" in message
        assert not (tmp_path / form).exists() or not any((tmp_path / form).iterdir())
    weights["model.layers.1.mlp.up_proj.weight"][3, 5] = float("nan")
    safetensors.torch.save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    assert "nan" in refusal(tool, model, tmp_path / "q8", "export_format=gguf", "export_dtype=q8_0")


def test_refusals(tool, tmp_path, model):
    out = tmp_path / "out"
    gguf_file = "export_format=gguf"
    assert "export_format=gguf" in refusal(tool, model, out, "export_dtype=q8_0")
    assert "is the model's own folder" in refusal(tool, model, model)
    assert "shape without weights" in refusal(tool, "shape:smollm2-135m", out)
    assert "export_dtype" in refusal(tool, model, out, "export_dtype=q4_0")
    assert "max_shard_size" in refusal(tool, model, out, "export_size=5")
    export(tool, model, out, gguf_file)
    assert "is there already" in refusal(tool, model, out, gguf_file)
    config = (model / "config.json").read_text()
    change_json(model / "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    assert "snug merge" in refusal(tool, model, tmp_path / "a")
    (model / "config.json").write_text(config)
    change_json(model / "config.json", architectures=["BloomForCausalLM"], model_type="bloom")
    assert "bloom" in refusal(tool, model, tmp_path / "a")
    (model / "config.json").write_text(config)
    (model / "tokenizer.json").unlink()
    assert "no tokenizer.json" in refusal(tool, model, tmp_path / "a", gguf_file)
    base = tmp_path / "base"
    shutil.copytree(model, base)
    (model / "config.json").unlink()
    (model / "adapter_config.json").write_text(json.dumps(
        {"peft_type": "LORA", "base_model_name_or_path": str(base), "r": 4, "target_modules": ["q_proj"]}))
    assert "snug merge" in refusal(tool, model, tmp_path / "a")
    assert not (tmp_path / "a").exists()


REFUSED_TOKENIZERS = {  # a shape of tokenizer_shapes, and what the message names
    "deepseek": r"\\s?\\p{P}+", "gpt2-prefix": "add_prefix_space", "no-pre-tokenizer": "cuts by", "NFKC": "NFKC",
    "llama2": "do not join", "no-fallback": "byte_fallback", "llama2-dropped-bytes": "no <0x",
    "metaspace-always-split": "before each ▁", "whitespace": "byte_fallback", "punctuation": "Punctuation",
}  # fmt: skip


@pytest.mark.parametrize("shape", REFUSED_TOKENIZERS)
def test_tokenizers_that_llama_cpp_cannot_represent_are_refused(tool, tmp_path, model, shape):
    tokenizer = tokenizer_shapes.shapes()[shape]()
    if shape == "metaspace-always-split":
        tokenizer = tokenizer_shapes.edited(tokenizer, lambda data: data["model"]["vocab"].update({"▁▁": 1600}))
    tokenizer.save(str(model / "tokenizer.json"))
    change_json(model / "config.json", vocab_size=2000)
    weights = safetensors.torch.load_file(model / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = torch.zeros(2000, 64, dtype=torch.bfloat16)
    safetensors.torch.save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    message = refusal(tool, model, tmp_path / "a", "export_format=gguf")
    assert REFUSED_TOKENIZERS[shape].replace("\\\\", "\\") in message.replace("\\\\", "\\")
    assert "export_format=safetensors" in message and "tokenizer.json" in message


def test_a_tokenizer_of_another_size_is_refused(tool, tmp_path, model):
    shutil.copy(model / "config.json", tmp_path / "config.json")
    config = json.loads((model / "config.json").read_text())
    weights = safetensors.torch.load_file(model / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = weights[name][:100].clone()
    safetensors.torch.save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    change_json(model / "config.json", vocab_size=100)
    message = refusal(tool, model, tmp_path / "a", "export_format=gguf")
    assert "vocab_size 100" in message and str(config["vocab_size"] - 4) in message


@pytest.mark.parametrize("form", ["safetensors", "gguf"])
def test_memory_is_a_tensor_and_some(tool, tmp_path, model, form):
    """More than 200 MiB of weights pass through a process that holds 8 MiB of them at a time."""
    change_json(model / "config.json", hidden_size=1024, intermediate_size=4096, num_hidden_layers=8, head_dim=16)
    config = transformers.AutoConfig.from_pretrained(model)
    with torch.device("meta"):
        meta = transformers.AutoModelForCausalLM.from_config(config)
    weights = {name: torch.zeros(value.shape, dtype=torch.bfloat16) for name, value in meta.state_dict().items()}
    safetensors.torch.save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    total = sum(value.nbytes for value in weights.values())
    largest = max(value.nbytes for value in weights.values())
    assert total > 10 * largest
    del weights
    report = export(tool, model, tmp_path / "out", f"export_format={form}", "export_dtype=fp16")
    assert report["peak_bytes"] < 2 * largest + (64 << 20)


def test_exports_are_the_same_bytes_every_time(tool, tmp_path, model):
    sums = {hashlib.sha256(open(export(tool, model, tmp_path / name, "export_format=gguf", "export_dtype=q8_0")["path"],
                                "rb").read()).hexdigest() for name in "ab"}
    assert len(sums) == 1
