"""The settings table against transformers' TrainingArguments and the recorded fields of TRL's configs."""

import dataclasses
import json
import pathlib
import subprocess

import pytest
import transformers

TRL_FIELDS = pathlib.Path(__file__).parent / "data" / "trl_fields.txt"
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
