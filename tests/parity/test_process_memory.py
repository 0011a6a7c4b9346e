"""device_memory is the process: what is sampled of it never exceeds device_memory, from its start to its end."""

import pytest
from process_setups import MIB, Setup, run_setup

SETUPS = {
    "lora_4bit_8_buckets": Setup(layers=8, hidden=128, intermediate=256, vocabulary=1024, buckets=8, rows=200, longest=200,
                                 settings=("finetuning_type=lora", "load_in_4bit=true"), evaluate=True),
    "full_saved_and_resumed": Setup(layers=4, hidden=128, intermediate=384, vocabulary=1024, buckets=2, resume=True,
                                    room=0.5),
    "one_layer": Setup(layers=1, buckets=1, longest=48),
}


@pytest.mark.parametrize("name", SETUPS)
def test_a_process_stays_within_its_memory(tool, tmp_path, name):
    budget, planned, runs = run_setup(tool("snug"), SETUPS[name], tmp_path)
    assert planned["needed_bytes"] <= budget
    for run in runs:
        assert run.status == 0, run.talk
        print(f"{name}: {run.peak / MIB:.1f} MiB of {budget / MIB:.1f}, arena {planned['arena_bytes'] / MIB:.1f}")
        assert 0 < run.peak <= budget


def test_plan_says_whose_figure_it_took(tool, tmp_path):
    _, planned, _ = run_setup(tool("snug"), SETUPS["one_layer"], tmp_path)
    assert planned["budget_from"] == "device_memory"
