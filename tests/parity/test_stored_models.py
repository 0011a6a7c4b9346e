"""Model folders whose files say other than their config.json, or say it oddly, mean what they mean to transformers."""

import importlib.util
import json
import shutil

import export_models
import gguf
import huggingface_hub.constants
import peft
import pytest
import safetensors.torch
import test_training as base
import torch
import transformers
from test_training import step_tool  # noqa: F401

TABLE, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def snug(tool, *words, status=0):
    done = base.run(tool("snug"), *words)
    assert done.returncode == status, done.stderr
    return done


def save(folder, tensors, **changes):
    """Tensors in one file, and changes to config.json; None deletes a key."""
    safetensors.torch.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    edit(folder / "config.json", **changes)


def edit(file, **changes):
    content = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def read(folder):
    return safetensors.torch.load_file(folder / "model.safetensors")


def load(folder, **options):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", **options)


@pytest.fixture
def made(tmp_path):
    """A folder of an untied Llama in fp32, and rows."""
    model, rows = base.make_model("llama")
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model", rows, base.write_rows(tmp_path / "rows.jsonl", rows)


def evaluate(tool, folder, file, *settings):
    done = snug(tool, "eval", f"model={folder}", f"data={file}", "append_eos=false", "--json", *settings)
    return json.loads(done.stdout)["eval_loss"], done.stderr


def loss_of(folder, rows):
    with torch.no_grad():
        return base.theirs(load(folder).eval(), rows)[1].item()


# Tied by config.json; the files hold

def keep_both(tensors):
    return tensors


def make_equal(tensors):
    return {**tensors, HEAD: tensors[TABLE].clone()}


def equal_in_other_type(tensors):
    table = tensors[TABLE].bfloat16()
    return {**tensors, TABLE: table.float(), HEAD: table}


def only_table(tensors):
    return {key: value for key, value in tensors.items() if key != HEAD}


def only_head(tensors):
    return {key: value for key, value in tensors.items() if key != TABLE}


TIED = {"different": keep_both, "equal": make_equal, "equal-types-differ": equal_in_other_type,
        "only-table": only_table, "only-head": only_head}


@pytest.mark.parametrize("name", TIED)
def test_a_tied_config_means_what_the_files_make_of_it(tool, step_tool, made, tmp_path, name):  # noqa: F811
    folder, rows, file = made
    save(folder, TIED[name](read(folder)), tie_word_embeddings=True)
    model = load(folder)
    apart = model.lm_head.weight is not model.model.embed_tokens.weight
    assert apart == (name == "different")
    expected = loss_of(folder, rows)
    loss, said = evaluate(tool, folder, file)
    assert loss == pytest.approx(expected, rel=base.TOLERANCE)
    assert ("they stay apart" in said) == apart
    # Training: every gradient, and what is saved.
    logits, loss = base.theirs(model, rows)
    loss.backward()
    ours = step_tool("gradients", folder, file, tmp_path / "gradients.safetensors", *base.PLAIN)
    ours.pop("flops/recomputed")
    gradients = {f"{key}.grad": p.grad for key, p in model.named_parameters()}
    base.assert_close(ours, {**gradients, "metric/loss": loss.detach()})
    base.train(tool, folder, file, tmp_path / "run", *base.PLAIN, "max_steps=1", "learning_rate=1e-12")
    assert loss_of(tmp_path / "run", rows) == pytest.approx(expected, rel=base.TOLERANCE)
    # Export.
    snug(tool, "export", f"model={folder}", f"output_dir={tmp_path / 'exported'}")
    assert loss_of(tmp_path / "exported", rows) == pytest.approx(expected, rel=base.TOLERANCE)
    assert json.loads((tmp_path / "exported" / "config.json").read_text())["tie_word_embeddings"] != apart


@pytest.mark.parametrize("arguments", [dict(target_modules=["q_proj", "lm_head"]),
                                       dict(target_modules=["q_proj"], modules_to_save=["embed_tokens"])])
@pytest.mark.parametrize("name", ["different", "only-head"])
def test_adapters_over_such_folders_merge_as_in_peft(tool, made, tmp_path, name, arguments):
    folder, rows, file = made
    save(folder, TIED[name](read(folder)), tie_word_embeddings=True)
    torch.manual_seed(2)
    model = peft.get_peft_model(load(folder), peft.LoraConfig(task_type="CAUSAL_LM", r=4, **arguments))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_B" in key or "modules_to_save" in key:
                parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path / "adapter")
    # PEFT itself may leave the two tables of a tied model as one; what it computes is the measure.
    with torch.no_grad():
        expected = base.theirs(peft.PeftModel.from_pretrained(load(folder), tmp_path / "adapter").eval(), rows)[1].item()
    assert evaluate(tool, tmp_path / "adapter", file)[0] == pytest.approx(expected, rel=base.TOLERANCE)
    snug(tool, "merge", f"model={tmp_path / 'adapter'}", f"output_dir={tmp_path / 'merged'}")
    assert loss_of(tmp_path / "merged", rows) == pytest.approx(expected, rel=base.TOLERANCE)


def test_generation_and_gguf_keep_such_tables_apart(tool, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    model, tokenizer = export_models.make("llama-spm", folder)
    generator = torch.Generator().manual_seed(4)
    tensors = {**read(folder), HEAD: torch.randn(model.lm_head.weight.shape, generator=generator)}
    save(folder, tensors)
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"]
    ids = torch.tensor([tokenizer.encode("the planet").ids])
    theirs = load(folder).generate(ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1]:].tolist()
    said = snug(tool, "generate", f"model={folder}", "prompt=the planet", "max_new_tokens=8", "--json")
    assert json.loads(said.stdout)["token_ids"] == theirs
    assert "they stay apart" in said.stderr
    path = json.loads(snug(tool, "export", f"model={folder}", f"output_dir={tmp_path / 'gguf'}", "export_format=gguf",
                           "--json").stdout)["path"]
    stored = {tensor.name: torch.tensor(tensor.data) for tensor in gguf.GGUFReader(path).tensors}
    assert torch.equal(stored["output.weight"], tensors[HEAD])
    assert torch.equal(stored["token_embd.weight"], tensors[TABLE])


# What the files hold beside the model

def test_more_layers_than_config_json_are_left_out_and_said(tool, made, tmp_path):
    folder, rows, file = made
    save(folder, {**read(folder), "extra.weight": torch.zeros(3), "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)},
         num_hidden_layers=1)
    model, report = load(folder, output_loading_info=True)
    unexpected = report["unexpected_keys"]
    assert len(unexpected) == 10 and "extra.weight" in unexpected
    loss, said = evaluate(tool, folder, file)
    assert loss == pytest.approx(loss_of(folder, rows), rel=base.TOLERANCE)
    note = "10 stored tensors are not of the model that config.json describes and are left out (the files hold 2 layers, num_hidden_layers is 1)"
    assert note in said
    for words in (["inspect"], ["plan", "max_length=16", "device_memory=1GiB"],
                  ["train", f"data={file}", f"output_dir={tmp_path / 'run'}", "max_steps=1", "finetuning_type=lora"],
                  ["export", f"output_dir={tmp_path / 'exported'}"]):
        assert note in snug(tool, words[0], f"model={folder}", *words[1:]).stderr, words
    done = snug(tool, "merge", f"model={tmp_path / 'run'}", f"output_dir={tmp_path / 'merged'}")
    assert note in done.stderr
    assert set(read(tmp_path / "merged")) == set(model.state_dict())


def test_a_folder_that_fits_has_nothing_said_of_it(tool, made):
    folder, _, file = made
    assert "stored tensors" not in evaluate(tool, folder, file)[1]


# Indices

def shards(folder, index_changes):
    """The folder in two shards with an index; changes to its map."""
    tensors = read(folder)
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    halves = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, part in halves.items():
        safetensors.torch.save_file({name: tensors[name] for name in part}, folder / file, metadata={"format": "pt"})
    weight_map = index_changes({name: file for file, part in halves.items() for name in part})
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))


INDICES = {
    "absent-tensors": lambda places: {**places, "model.layers.7.absent": next(iter(places.values()))},
    "dotted": lambda places: {name: "./" + file for name, file in places.items()},
    "unlisted-tensors": lambda places: {list(places)[0]: list(places.values())[0], list(places)[-1]: list(places.values())[-1]},
    "swapped": lambda places: dict(zip(places, reversed(places.values()), strict=True)),
}


@pytest.mark.parametrize("name", INDICES)
def test_of_an_index_the_files_count(tool, made, name):
    folder, rows, file = made
    before = loss_of(folder, rows)
    shards(folder, INDICES[name])
    assert loss_of(folder, rows) == before
    assert evaluate(tool, folder, file)[0] == pytest.approx(before, rel=base.TOLERANCE)


def test_a_tensor_in_two_files_is_the_last_ones(tool, made):
    folder, rows, file = made
    shards(folder, dict)
    first = folder / "model-00001-of-00002.safetensors"
    second = safetensors.torch.load_file(folder / "model-00002-of-00002.safetensors")
    name = next(key for key in second if second[key].ndim == 2)
    tensors = {**safetensors.torch.load_file(first), name: torch.zeros_like(second[name])}
    safetensors.torch.save_file(tensors, first, metadata={"format": "pt"})
    assert torch.equal(load(folder).state_dict()[name], second[name])
    assert evaluate(tool, folder, file)[0] == pytest.approx(loss_of(folder, rows), rel=base.TOLERANCE)


def test_a_tensor_in_no_file_is_missed(tool, made):
    folder, _, file = made
    shards(folder, dict)
    first = folder / "model-00001-of-00002.safetensors"
    tensors = safetensors.torch.load_file(first)
    name = sorted(tensors)[-1]
    safetensors.torch.save_file({key: value for key, value in tensors.items() if key != name}, first)
    done = snug(tool, "eval", f"model={folder}", f"data={file}", status=1)
    assert f"'{name}' is missing" in done.stderr


# Types

@pytest.mark.parametrize("dtype", ["float64", None])
def test_float64_weights_are_read(tool, made, tmp_path, dtype):
    folder, rows, file = made
    save(folder, {key: value.double() for key, value in read(folder).items()}, dtype=dtype)
    assert load(folder).dtype == torch.float64
    expected = loss_of(folder, rows)
    assert evaluate(tool, folder, file)[0] == pytest.approx(expected, rel=base.TOLERANCE)
    base.train(tool, folder, file, tmp_path / "run", *base.PLAIN, "max_steps=1", "learning_rate=1e-12")
    assert loss_of(tmp_path / "run", rows) == pytest.approx(expected, rel=base.TOLERANCE)
    base.train(tool, folder, file, tmp_path / "adapter", *base.PLAIN, "max_steps=3", "learning_rate=1e-2",
               "finetuning_type=lora", "lora_r=4", "lora_target_modules=q_proj")
    snug(tool, "merge", f"model={tmp_path / 'adapter'}", f"output_dir={tmp_path / 'merged'}")
    theirs = peft.PeftModel.from_pretrained(load(folder), tmp_path / "adapter").merge_and_unload().state_dict()
    base.assert_close(read(tmp_path / "merged"), dict(theirs), 1e-6)
    snug(tool, "export", f"model={folder}", f"output_dir={tmp_path / 'exported'}")
    exported = load(tmp_path / "exported")
    assert exported.dtype == torch.float32
    assert all(torch.equal(value.float(), exported.state_dict()[key]) for key, value in read(folder).items())


def test_without_a_dtype_the_files_type_is_computed_in(tool, made):
    folder, rows, file = made
    save(folder, {key: value.bfloat16() for key, value in read(folder).items()}, dtype=None)
    assert load(folder).dtype == torch.bfloat16
    asked, _ = evaluate(tool, folder, file, "bf16=true")
    assert evaluate(tool, folder, file)[0] == asked != evaluate(tool, folder, file, "bf16=false")[0]


def test_auto_is_a_dtype_of_settings_and_not_of_config_json(tool, made, tmp_path):
    """transformers takes dtype="auto" as an argument and fails on it in config.json."""
    folder, _, file = made
    for key in ("dtype", "torch_dtype"):
        (tmp_path / "run.yaml").write_text(f"model: {folder}\ndata: {file}\n{key}: auto\nmax_steps: 1\n"
                                           f"output_dir: {tmp_path / key}\n")
        snug(tool, "train", tmp_path / "run.yaml")
        edit(folder / "config.json", dtype=None, torch_dtype=None)
        edit(folder / "config.json", **{key: "auto"})
        with pytest.raises(AttributeError):
            load(folder)
        assert f"'{key}' is 'auto'" in snug(tool, "eval", f"model={folder}", f"data={file}", status=1).stderr
        edit(folder / "config.json", **{key: "float32"})


# Damaged JSON

@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
                                  "model.safetensors.index.json", "adapter_config.json"])
def test_bytes_behind_a_nul_are_seen(tool, tmp_path, name):
    snug(tool, "demo", "make", f"output_dir={tmp_path / 'demo'}")
    folder, file = tmp_path / "demo" / "model", tmp_path / "demo" / "eval.jsonl"
    words = ["generate", f"model={folder}", "prompt=sort planet =", "max_new_tokens=2"]
    if name == "model.safetensors.index.json":
        shards(folder, dict)
    if name == "tokenizer_config.json":
        folder = tmp_path / "model"
        folder.mkdir()
        export_models.make("llama-spm", folder)
        words = ["export", f"model={folder}", f"output_dir={tmp_path / 'gguf'}", "export_format=gguf"]
    if name == "adapter_config.json":
        snug(tool, "train", f"model={folder}", f"data={file}", f"output_dir={tmp_path / 'run'}", "max_steps=1",
             "finetuning_type=lora", "save_strategy=no")
        folder = tmp_path / "run"
        words[1] = f"model={folder}"
    snug(tool, *words)
    shutil.rmtree(tmp_path / "gguf", ignore_errors=True)
    text = (folder / name).read_bytes()
    for damage in (text + b"\0", text + b"\0{}", text[:-3] + b"\0" + text[-3:]):
        (folder / name).write_bytes(damage)
        said = snug(tool, *words, status=1).stderr
        assert f"{name}: not valid JSON" in said and "NUL" in said


def test_a_safetensors_header_with_a_nul_is_refused(tool, made):
    folder, _, file = made
    path = folder / "model.safetensors"
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = data[8:8 + length].rstrip(b" ") + b"\0" * 8
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length:])
    with pytest.raises(safetensors.SafetensorError):
        safetensors.torch.load_file(path)
    assert "NUL" in snug(tool, "eval", f"model={folder}", f"data={file}", status=1).stderr


# The cache

CACHES = [{}, {"HF_HUB_CACHE": "/a"}, {"HUGGINGFACE_HUB_CACHE": "/b"}, {"HF_HUB_CACHE": "/a", "HUGGINGFACE_HUB_CACHE": "/b"},
          {"HF_HOME": "/c"}, {"HF_HOME": "/c/"}, {"HF_HOME": "/c", "HUGGINGFACE_HUB_CACHE": "/b"}, {"XDG_CACHE_HOME": "/d"},
          {"XDG_CACHE_HOME": "/d", "HF_HOME": "/c"}, {"HF_HUB_CACHE": "~/hub"}, {"HF_HOME": "~"}, {"HF_HUB_CACHE": "~root/x"},
          {"HF_HUB_CACHE": "~nobody-at-all/x"}, {"HUGGINGFACE_HUB_CACHE": "~/$PLACE/x"}, {"HF_HOME": "$PLACE/${PLACE}x"},
          {"HF_HUB_CACHE": "$NOT_SET/${NOT_SET}/$PLACE"}, {"HF_HUB_CACHE": "${PLACE"}, {"HF_HUB_CACHE": "$/${}/x$"},
          {"HF_HUB_CACHE": "${NOT$PLACE}/$PLACEx"}, {"XDG_CACHE_HOME": "~/$PLACE"}, {"HF_HOME": "$TWICE"},
          {"HF_HUB_CACHE": ""}, {"HF_HOME": ""}, {"XDG_CACHE_HOME": ""}, {"HUGGINGFACE_HUB_CACHE": ""}, {"HOME": "/"},
          {"HOME": "/h//"}, {"HOME": ""}, {"HOME": None}, {"HF_HUB_CACHE": "x~/~"}]


@pytest.mark.parametrize("variables", CACHES, ids=str)
def test_the_cache_is_where_huggingface_hub_looks(tool, monkeypatch, variables):
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HUGGINGFACE_CO_STAGING"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/user", "PLACE": "place", "TWICE": "/$PLACE", **variables}.items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    spec = importlib.util.spec_from_file_location("huggingface_hub.constants", huggingface_hub.constants.__file__)
    fresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fresh)
    assert base.run(tool("formats_tool"), "hub-cache").stdout == fresh.HF_HUB_CACHE
