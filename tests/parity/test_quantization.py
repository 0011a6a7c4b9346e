"""Quantised weights are bitsandbytes' weights: codes, scales and the values they stand for, whether snug quantises or
reads what bitsandbytes saved; the model computes with these values.

Traps of bitsandbytes on the CPU are kept away from: rows are multiples of 64 (its dequantiser is wrong for others), models
are trained or read, never evaluated before (that repacks the weights in place), and its double quantisation of scales goes
through a coarse grid, so scales are compared by value there.
"""

import json
import subprocess

import bitsandbytes.functional as bnb
import pytest
import safetensors.torch
import torch
import transformers

SMALL = dict(hidden_size=128, intermediate_size=192, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             vocab_size=131, max_position_embeddings=64, bos_token_id=1, eos_token_id=2)
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
FORMATS = {
    "nf4": dict(load_in_4bit=True, bnb_4bit_quant_type="nf4"),
    "nf4-double": dict(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True),
    "fp4": dict(load_in_4bit=True, bnb_4bit_quant_type="fp4"),
    "int8": dict(load_in_8bit=True),
}


@pytest.fixture(scope="module")
def plain_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model("llama", **SMALL)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    model.save_pretrained(folder)
    rows = folder / "rows.jsonl"
    rows.write_text(json.dumps({"input_ids": list(range(3, 40)), "labels": list(range(3, 40))}) + "\n")
    return folder


@pytest.fixture(scope="module")
def packed_folder(plain_folder, tmp_path_factory):
    """packed_folder(format): a folder that transformers and bitsandbytes quantised and saved."""
    made = {}

    def folder(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            options = transformers.BitsAndBytesConfig(**FORMATS[name])
            model = transformers.AutoModelForCausalLM.from_pretrained(
                plain_folder, quantization_config=options, dtype=torch.bfloat16, device_map="cpu")
            model.save_pretrained(made[name])
        return made[name]

    return folder


def run(tool, what, folder, plain_folder, out, *settings):
    command = [tool("step_tool"), what, folder, plain_folder / "rows.jsonl", out, "threads=2", *settings]
    subprocess.run(command, check=True)
    return safetensors.torch.load_file(out)


def is_linear(name):
    return name.removesuffix(".weight").rsplit(".", 1)[-1] in LINEAR


@pytest.mark.parametrize("double", [False, True])
def test_quantising_gives_the_bits_of_bitsandbytes(tool, plain_folder, tmp_path, double):
    ours = run(tool, "weights", plain_folder, plain_folder, tmp_path / "out", "load_in_4bit=true",
               f"bnb_4bit_use_double_quant={str(double).lower()}")
    plain = safetensors.torch.load_file(plain_folder / "model.safetensors")
    linear = [name for name in plain if is_linear(name)]
    assert len(linear) == 14
    for name in linear:
        codes, state = bnb.quantize_4bit(plain[name], blocksize=64, quant_type="nf4")
        assert torch.equal(ours[name], codes.flatten()), name
        if not double:
            assert torch.equal(ours[name + ".scales"], state.absmax), name
            theirs = bnb.dequantize_4bit(codes, state, quant_type="nf4").bfloat16()
            assert torch.equal(ours[name + ".dequantized"].bfloat16(), theirs), name
            continue
        codes = ours[name + ".scales"]
        block = ours[name + ".nested_scales"].repeat_interleave(256)[:len(codes)]
        back = bnb.create_dynamic_map(True)[codes.long()] * block + ours[name + ".nested_offset"]
        assert (ours[name + ".nested_offset"] - state.absmax.mean()).abs() <= 1e-6 * state.absmax.mean()
        assert ((back - state.absmax).abs() <= 0.0072 * block).all(), name  # half the widest gap of the map
    for name in set(plain) - set(linear):
        assert torch.equal(ours[name], plain[name]), name


def test_eight_bits_have_the_bits_of_bitsandbytes(tool, plain_folder, tmp_path):
    ours = run(tool, "weights", plain_folder, plain_folder, tmp_path / "out", "load_in_8bit=true")
    plain = safetensors.torch.load_file(plain_folder / "model.safetensors")
    for name in filter(is_linear, plain):
        codes, scales, _ = bnb.int8_vectorwise_quant(plain[name].half())
        assert torch.equal(ours[name], codes.flatten()), name
        assert torch.equal(ours[name + ".scales"], scales), name
        assert torch.equal(ours[name + ".dequantized"], bnb.int8_vectorwise_dequant(codes, scales)), name


@pytest.mark.parametrize("name", FORMATS)
def test_folders_of_bitsandbytes_are_read_as_they_are(tool, plain_folder, packed_folder, tmp_path, name):
    folder = packed_folder(name)
    ours = run(tool, "weights", folder, plain_folder, tmp_path / "out")
    stored = safetensors.torch.load_file(folder / "model.safetensors")
    for weight in filter(is_linear, stored):
        assert torch.equal(ours[weight].flatten(), stored[weight].flatten()), weight
        if name == "int8":
            scales = stored[weight.replace(".weight", ".SCB")]
            theirs = bnb.int8_vectorwise_dequant(stored[weight], scales)
        else:
            parts = {key: tensor for key, tensor in stored.items() if key.startswith(weight + ".")}
            state = bnb.QuantState.from_dict(parts, device=torch.device("cpu"))
            theirs = bnb.dequantize_4bit(stored[weight], state)
        assert torch.equal(ours[weight + ".dequantized"].to(theirs.dtype), theirs), weight


@pytest.mark.parametrize("name", FORMATS)
def test_the_model_computes_with_the_stored_values(tool, plain_folder, packed_folder, tmp_path, name):
    """In fp32, against transformers on the dequantised weights: only the order of sums differs."""
    folder = packed_folder(name)
    ours = run(tool, "logits", folder, plain_folder, tmp_path / "logits", "bf16=false", "append_eos=false")["logits/0"]
    values = run(tool, "weights", folder, plain_folder, tmp_path / "weights", "bf16=false")
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model("llama", **SMALL))
    state = {key: values.get(key + ".dequantized", values.get(key)) for key in model.state_dict()}
    model.load_state_dict({key: value.reshape(model.state_dict()[key].shape) for key, value in state.items()})
    theirs = model.float().eval()(torch.arange(3, 40)[None]).logits[0]
    assert (ours - theirs).norm() <= 1e-5 * theirs.norm()


def test_training_them_is_refused(tool, plain_folder, tmp_path):
    for settings in (["load_in_4bit=true"], ["load_in_8bit=true"]):
        done = subprocess.run([tool("snug"), "train", f"model={plain_folder}", f"data={plain_folder / 'rows.jsonl'}",
                               f"output_dir={tmp_path / 'run'}", *settings], capture_output=True, text=True)
        assert done.returncode == 1
        assert "quantised weights cannot be trained" in done.stderr
        assert "finetuning_type=lora " + settings[0] in done.stderr
        assert not (tmp_path / "run").exists()


def test_eval_and_generate_use_them(tool, plain_folder, packed_folder):
    def evaluate(folder, *settings):
        done = subprocess.run([tool("snug"), "eval", f"model={folder}", f"data={plain_folder / 'rows.jsonl'}", "--json",
                               *settings], capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    stored = evaluate(packed_folder("nf4"))
    quantised = evaluate(plain_folder, "load_in_4bit=true")
    assert stored["eval_loss"] == quantised["eval_loss"]
    plain = evaluate(plain_folder)
    assert quantised["eval_loss"] != plain["eval_loss"]
    assert quantised["planned_peak_bytes"] < plain["planned_peak_bytes"]
