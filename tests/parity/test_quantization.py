"""Quantised weights are bitsandbytes' weights: codes, scales and the values they stand for, whether snug quantises or
reads what bitsandbytes saved; the model computes with these values.

Traps of bitsandbytes on the CPU are kept away from: rows are multiples of 64 (its dequantiser is wrong for others), models
are trained or read, never evaluated before (that repacks the weights in place), and its double quantisation of scales goes
through a coarse grid, so scales are compared by value there.
"""

import json
import re
import shutil
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


@pytest.mark.parametrize("words, messages", [
    (["load_in_4bit=true"], ["quantised weights cannot be trained", "finetuning_type=lora load_in_4bit=true"]),
    (["load_in_8bit=true"], ["quantised weights cannot be trained", "finetuning_type=lora load_in_8bit=true"]),
    (["load_in_4bit=true", r"unfrozen_parameters=layers\.1\.mlp"],
     ["'model.layers.1.mlp.gate_proj.weight' would be", "load_in_4bit=true, with modules_to_save=mlp.gate_proj"]),
    (["load_in_4bit=true", "unfrozen_parameters=lm_head"],
     ["a model is not saved with a part of it quantised", "finetuning_type=lora load_in_4bit=true modules_to_save=lm_head"]),
])
def test_training_without_adapters_is_refused_with_a_way_out(tool, plain_folder, tmp_path, words, messages):
    done = train(tool, plain_folder, plain_folder, tmp_path / "run", *words)
    assert done.returncode == 1
    for message in messages:
        assert message in done.stderr
    assert not (tmp_path / "run").exists()


def test_the_way_out_trains_a_part_in_full_over_a_quantised_base(tool, plain_folder, tmp_path):
    done = train(tool, plain_folder, plain_folder, tmp_path / "run", "finetuning_type=lora", "load_in_4bit=true",
                 "lora_target_modules=q_proj", "modules_to_save=mlp.gate_proj,lm_head", "max_steps=2", "lr=1e-2",
                 "lr_scheduler_type=constant")
    assert done.returncode == 0, done.stderr
    plain = safetensors.torch.load_file(plain_folder / "model.safetensors")
    saved = safetensors.torch.load_file(tmp_path / "run" / "adapter_model.safetensors")
    for name in ("lm_head.weight", "model.layers.0.mlp.gate_proj.weight", "model.layers.1.mlp.gate_proj.weight"):
        copy = saved["base_model.model." + name]
        assert copy.shape == plain[name].shape and not torch.equal(copy, plain[name]), name


def train(tool, model, rows, output, *settings):
    return subprocess.run([tool("snug"), "train", f"model={model}", f"data={rows / 'rows.jsonl'}", f"output_dir={output}",
                           "append_eos=false", "threads=2", *settings], capture_output=True, text=True)


def edited(folder, to, edit):
    """A copy of a folder with its tensors changed."""
    shutil.copytree(folder, to)
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    edit(tensors)
    safetensors.torch.save_file(tensors, to / "model.safetensors", {"format": "pt"})
    return to


STATE = "model.layers.1.self_attn.v_proj.weight.quant_state.bitsandbytes__nf4"
SCALES = "model.layers.0.mlp.up_proj.weight.absmax"


def with_block_size(tensors):
    state = json.loads(bytes(tensors[STATE].tolist())) | {"blocksize": 128}
    tensors[STATE] = torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)


def with_fewer_scales(tensors):
    tensors[SCALES] = tensors[SCALES][:-1].clone()


@pytest.mark.parametrize("name, edit, message", [
    ("nf4", with_block_size, f"'{STATE}' has blocksize 128; snug reads 64."),
    ("nf4", with_fewer_scales, f"'{SCALES}' is F32 of"),
    ("nf4-double", lambda tensors: tensors.pop(STATE), f"'{STATE}' is missing"),
    ("nf4-double", lambda tensors: tensors.pop(SCALES.replace("absmax", "nested_absmax")), "nested_absmax' is missing"),
    ("int8", lambda tensors: tensors.pop("model.layers.1.mlp.down_proj.SCB"), "down_proj.SCB' is missing"),
])
def test_broken_folders_are_refused_before_memory_is_reserved(tool, plain_folder, packed_folder, tmp_path, name, edit,
                                                              message):
    folder = edited(packed_folder(name), tmp_path / "broken", edit)
    done = train(tool, folder, plain_folder, tmp_path / "run", "finetuning_type=lora")
    assert done.returncode == 1
    assert message in done.stderr and "model.safetensors" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_limit_below_what_is_possible_names_the_tightest(tool, plain_folder, tmp_path):
    words = ["finetuning_type=lora", "load_in_4bit=true", "max_steps=1", "per_device_train_batch_size=1"]
    done = train(tool, plain_folder, plain_folder, tmp_path / "run", *words, "activation_checkpointing=1KiB")
    assert done.returncode == 1 and not (tmp_path / "run").exists()
    tightest = re.search(r"the tightest that works: (activation_checkpointing=\S+)\.", done.stderr)[1]
    done = train(tool, plain_folder, plain_folder, tmp_path / "run", *words, tightest)
    assert done.returncode == 0, done.stderr


def test_plan_and_log_name_the_base(tool, plain_folder):
    words = [tool("snug"), "plan", f"model={plain_folder}", "adapter=qlora", "bnb_4bit_use_double_quant=true",
             "max_length=64", "global_batch_size=1", "details=true"]
    shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert "LoRA r 16, nf4 base, double quantised, bf16" in shown
    assert re.search(r"nf4 base: saves [\d.]+ [KM]iB", shown)
    shown = subprocess.run([*words, "--json"], capture_output=True, text=True, check=True).stdout
    assert "nf4 base, double quantised" in json.loads(shown)["recipe"]


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
