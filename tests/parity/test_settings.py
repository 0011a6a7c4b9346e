"""The settings table against transformers' TrainingArguments and the recorded fields of TRL's configs."""

import dataclasses
import json
import os
import pathlib
import subprocess

import pytest
import transformers

DATA = pathlib.Path(__file__).parent / "data"
TRL_FIELDS = DATA / "trl_fields.txt"
SUPPORTED = "supported"


@pytest.fixture(scope="module")
def table(tool):
    result = subprocess.run([tool("snug"), "help", "--json"], check=True, capture_output=True, text=True)
    return json.loads(result.stdout)["settings"]


@pytest.fixture(scope="module")
def names(table):
    """Row by canonical key and by alias."""
    return {name: row for row in table for name in [row["key"], *row["aliases"]]}


def spelled(value):
    """A Python default as settings spell it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[]" if not value else ""
    return str(getattr(value, "value", value))


def transformers_defaults():
    def default(field):
        if field.default is not dataclasses.MISSING:
            return spelled(field.default)
        return spelled(field.default_factory())

    return {field.name: default(field) for field in dataclasses.fields(transformers.TrainingArguments)}


def trl_defaults():
    defaults = {}
    for line in TRL_FIELDS.read_text().splitlines():
        if not line.startswith("#"):
            _, name, value = line.split(" ", 2)
            defaults[name] = spelled(eval(value, {}))  # a literal that this repository holds
    return defaults


def same(one, two):
    nothing = {"null", "none", "", "[]", "{}", "false"}
    if one in nothing and two in nothing:
        return True
    try:
        return float(one) == float(two)
    except ValueError:
        return one == two


def run(tool, *words):
    return subprocess.run([tool("snug"), *words], capture_output=True, text=True)


def test_every_key_of_training_arguments_is_in_the_table(names):
    assert set(transformers_defaults()) - set(names) == set()


def test_every_key_of_trl_is_in_the_table(names):
    assert len(trl_defaults()) > 40
    assert set(trl_defaults()) - set(names) == set()


@pytest.mark.parametrize("peer, least", [("axolotl", 380), ("llamafactory", 260)])
def test_every_key_of_other_peers_is_in_the_table(names, peer, least):
    keys = [line for line in (DATA / f"{peer}_fields.txt").read_text().splitlines() if not line.startswith("#")]
    assert len(keys) > least
    assert set(keys) - set(names) == set()


def test_a_peers_file_is_answered_in_one_go(tool, tmp_path):
    """An Axolotl file as its examples are: every line that cannot be honoured has its error, no other has."""
    config = tmp_path / "axolotl.yaml"
    config.write_text("""base_model: no/such
load_in_4bit: true
datasets:
  - path: mhenrichsen/alpaca_2k_test
    type: alpaca
dataset_prepared_path:
val_set_size: 0.05
adapter: qlora
lora_model_dir:
sequence_len: 4096
sample_packing: true
eval_sample_packing: false
pad_to_sequence_len: true
lora_r: 32
lora_alpha: 16
lora_target_modules:
lora_target_linear: true
wandb_project:
wandb_entity:
wandb_watch:
gradient_accumulation_steps: 4
micro_batch_size: 2
optimizer: paged_adamw_32bit
lr_scheduler: cosine
learning_rate: 0.0002
bf16: auto
tf32: false
gradient_checkpointing: true
logging_steps: 1
flash_attention: true
evals_per_epoch: 4
saves_per_epoch: 1
special_tokens:
""")
    result = run(tool, "train", str(config), "device_memory=8G", "--config")
    lines = result.stderr.splitlines()
    assert result.returncode == 1
    expected = ["--config needs a value", f"{config}:3: datasets is [{{path:", f"{config}:23: optim (written optimizer)",
                f"{config}:31: evals_per_epoch is 4", f"{config}:32: saves_per_epoch is 1", "device_memory is 8G",
                "train needs train_file", f"{config}:1: 'no/such' is not on this machine"]
    assert [text for text in expected if not any(text in line for line in lines)] == []
    assert len(lines) == len(expected)


def test_paths_are_answered_with_what_was_meant(tool, tmp_path):
    (tmp_path / "demo" / "model").mkdir(parents=True)
    (tmp_path / "demo" / "train.jsonl").touch()

    def said(*words):
        result = subprocess.run([tool("snug"), *words], cwd=tmp_path, capture_output=True, text=True)
        assert result.returncode == 1
        return result.stderr

    both = said("train", "model=demo/modle", "data=demo/trian.jsonl")
    assert "command line: demo/modle: no such folder. Did you mean demo/model?" in both
    assert "command line: demo/trian.jsonl: there is no such file, folder or match. Did you mean demo/train.jsonl?" in both
    assert "Did you mean demo/model?" in said("plan", "model=dmeo/model")
    assert "Did you mean demo?" in said("plan", "model=dmeo")
    assert "Run: hf download owner/other-model" in said("plan", "model=owner/other-model")
    assert "snug writes GGUF files (snug export) and reads none" in said("plan", "model=model.gguf")
    assert "Did you mean model=demo?" in said("train", "demo")


@pytest.fixture(params=["full device", "reader gone", "closed"])
def broken_output(request):
    """What subprocess takes to give a program a standard output that cannot be written."""
    if request.param == "closed":
        yield {"stdout": subprocess.DEVNULL, "preexec_fn": lambda: os.close(1)}
        return
    if request.param == "full device":
        stream = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, stream = os.pipe()
        os.close(reader)
    yield {"stdout": stream}
    os.close(stream)


def test_output_that_cannot_be_written_is_an_error(tool, broken_output):
    for words in (["help"], ["--version"], ["help", "--json"], ["plan", "model=shape:tiny"],
                  ["plan", "model=shape:tiny", "--json"], ["explain", "model=shape:tiny"]):
        result = subprocess.run([tool("snug"), *words], stderr=subprocess.PIPE, text=True, **broken_output)
        assert result.returncode == 1, words
        assert "standard output could not be written" in result.stderr, words


def test_the_peers_defaults_are_the_packages_own(table):
    known = {**trl_defaults(), **transformers_defaults()}
    wrong = {row["key"]: (row["peer_default"], known.get(row["key"], "")) for row in table
             if not same(row["peer_default"], known.get(row["key"], ""))}
    assert wrong == {}


def test_where_our_default_differs_the_table_says_why(table):
    silent = [row["key"] for row in table if row["status"] == SUPPORTED and row["peer_default"] and not row["why"]
              and not same(row["default"], row["peer_default"])]
    assert silent == []


def test_the_names_of_schedulers_and_optimizers_are_known(tool):
    from transformers.trainer_utils import SchedulerType
    from transformers.training_args import OptimizerNames

    for key, values in {"lr_scheduler_type": SchedulerType, "optim": OptimizerNames}.items():
        text = run(tool, "help", key).stdout.replace(",", " ").replace(":", " ").replace(". ", " ").split()
        assert [value.value for value in values if value.value not in text] == []
