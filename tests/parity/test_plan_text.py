"""What `snug plan` tells people: the verdict, six lines that add up, notes where they apply, the rest by details=true."""

import json
import re
import subprocess

import pytest

UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
USES = ["weights", "optimizer", "gradients", "activations", "workspace", "outside"]
TINY = ["model=shape:tiny", "max_length=64", "per_device_train_batch_size=4", "gradient_accumulation_steps=1",
        "device_memory=1GiB"]
SMALL = ["model=shape:smol135m", "max_length=256", "per_device_train_batch_size=2", "gradient_accumulation_steps=1",
         "device_memory=8GiB"]


@pytest.fixture(scope="module")
def plan(tool):
    def call(*words, status=0):
        finished = subprocess.run([str(tool("snug")), "plan", *map(str, words)], capture_output=True, text=True,
                                  check=False)
        assert finished.returncode == status, finished.stderr
        return finished.stdout

    return call


def figures(text):
    """The first indented block: name to bytes."""
    block = re.search(r"\n\n((?:  \w+ +[\d.]+ \w+.*\n)+)peak: (.+)\n", text)
    assert block, text
    rows = re.findall(r"^  (\w+) +([\d.]+) (\w+)", block[1], re.M)
    return {name: float(number) * UNITS[unit] for name, number, unit in rows}, block[2]


def test_six_lines_add_up_and_name_the_peak(plan):
    text = plan(*SMALL)
    shown, peak = figures(text)
    said = json.loads(plan(*SMALL, "--json"))
    assert list(shown) == [*USES, "free"]
    assert peak == "in backward, at the head" == said["summary"]["peak"]
    assert sum(said["summary"][use] for use in USES) == said["arena_bytes"] + said["outside_bytes"]
    for use in set(USES) - {"outside"}:  # outside is measured, by two processes here
        assert shown[use] == pytest.approx(said["summary"][use], rel=0.01, abs=64)
    assert shown["free"] == pytest.approx((8 << 30) - sum(shown[use] for use in USES), rel=0.01)
    assert len(text.splitlines()) <= 16 and "scratch" not in text and "#" not in text


def test_a_misfit_says_what_is_missing(plan):
    text = plan(*SMALL[:-1], "device_memory=500MiB", "activation_checkpointing=false", status=3)
    shown, _ = figures(text)
    assert shown["missing"] == pytest.approx(sum(shown[use] for use in USES) - (500 << 20), rel=0.01)
    assert "snug train" not in text


def test_trained_parameters(plan):
    assert "\n134,515,008 parameters, all trained\n" in plan(*SMALL)
    text = plan(*SMALL, "finetuning_type=lora", "lora_r=8")
    everything, trained, share = re.search(r"\n([\d,]+) parameters, ([\d,]+) trained \(([\d.]+) %\)\n", text).groups()
    everything, trained = (int(number.replace(",", "")) for number in (everything, trained))
    assert everything == 134515008 + trained and float(share) == pytest.approx(100 * trained / everything, abs=0.005)


def test_the_rule_of_thumb_stands_only_where_it_holds(plan):
    rule = "rule of thumb: 16 N = 2.00 GiB"
    assert rule in plan(*SMALL) and rule in plan(*SMALL, "bf16=false")
    for other in (["finetuning_type=lora"], ["optim=adamw_8bit"], ["master_weights=none"], ["optim=sgd"],
                  ["finetuning_type=freeze"]):
        assert "rule of thumb" not in plan(*SMALL, *other), other


def test_one_layers_activations_stand_beside_the_formula(plan):
    words = [*SMALL, "activation_checkpointing=false"]
    said = json.loads(plan(*words, "--json"))["facts"]
    most = max(size for layer, size in said["saved_by_layer"].items() if int(layer) >= 0)
    assert said["layer_formula_bytes"] == 2 * 2 * 256 * 576 * 10
    match = re.search(r"2·B·S·H·10 = ([\d.]+) MiB by the formula, ([\d.]+) MiB here", plan(*words))
    assert [float(number) for number in match.groups()] == [round(said["layer_formula_bytes"] / 2**20, 2),
                                                            round(most / 2**20, 2)]


def test_byte_limits_are_readable(plan):
    text = plan(*SMALL, "activation_checkpointing=60000000B")
    assert "activation_checkpointing 57.22 MiB" in text.splitlines()[0] and "60000000" not in text


def test_the_last_line_is_a_command_that_can_run(plan, tool, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"input_ids": [5, 6, 7, 8], "labels": [5, 6, 7, 8]}\n' * 8)
    data, output = f"data={rows}", f"output_dir={tmp_path / 'run'}"
    assert "snug train" not in plan(*TINY)
    assert "snug train" not in plan(*TINY, data), "a shape has no weights"
    assert "snug train" not in plan(*TINY, "init=random")
    profile = ["device=cuda", "device_profile=rtx4090", "device_memory=8GiB"]
    assert "snug train" not in plan(*TINY, data, "init=random", *profile)
    line = plan(*TINY, data, "init=random", output, "max_steps=1", "details=true").splitlines()[-1]
    assert line.startswith("snug train ") and "details" not in line
    finished = subprocess.run(line.replace("snug", str(tool("snug")), 1), shell=True, capture_output=True, text=True,
                              check=False)
    assert finished.returncode == 0, finished.stderr


def test_details_hold_the_table_and_the_reasons(plan):
    words = ["model=shape:smol135m", "max_length=256", "global_batch_size=4", "per_device_train_batch_size=2",
             "device_memory=8GiB", "activation_checkpointing=true"]
    short, text = plan(*words), plan(*words, "details=true")
    assert "details=true" in short and "device arena: " not in short
    for part in ("device arena: ", "program micro.256.next", "layer ", " keeps for backward: ", "layers.",
                 "gradient accumulation: saves "):
        assert part in text
    saves = re.search(r"of what forward leaves for backward ([\d.]+) % .* ([\d.]+) of one forward, ([\d.]+) % more than",
                      text)
    left, forwards, more = (float(number) for number in saves.groups())
    assert 60 < left < 100 and 10 < more < 34
    assert more == pytest.approx(100 * forwards / 3, rel=0.1), "backward costs two forwards"
    assert "gradients: all 256.57 MiB live through the step" in text
    assert "attention scores, never held: 2.25 MiB a layer, 67.50 MiB in all for rows of 256" in text
    assert "grow linearly with rows and length" in text


@pytest.mark.parametrize("words, sentence", [
    (["activation_checkpointing=true"], r"gradients: all 256.57 MiB exist at the peak|gradients: [\d.]+ MiB of 256.57"),
    (["activation_checkpointing=false"], r"gradients: [\d.]+ MiB of 256.57 MiB exist at the peak"),
    (["update_in_backward=true", "max_grad_norm=0"], r"gradients: of 256.57 MiB at most [\d.]+ MiB exist at once"),
    (["optim=adafactor"], r"optimizer: .* of state, where fp32 Adam has 8 bytes a parameter, 1.00 GiB"),
    (["optim=sgd"], r"optimizer: no state, where fp32 Adam"),
    (["optim=adamw_8bit"], r"Adam has 8 bytes a parameter, 1.00 GiB: 3.94 times less"),
    ([], r"fp32 master beside them, 513.13 MiB"),
])
def test_details_say_why(plan, words, sentence):
    assert re.search(sentence, plan(*SMALL, "details=true", *words))


def test_the_largest_use_names_what_to_try_next(plan):
    assert "most of it: optimizer" in plan(*SMALL) and "try optim=adamw_8bit" in plan(*SMALL)
    lora = plan(*SMALL, "finetuning_type=lora", "activation_checkpointing=false", "per_device_train_batch_size=8")
    assert "most of it: activations" in lora and "try activation_checkpointing=true" in lora
    assert "try a smaller per_device_train_batch_size" in plan(*SMALL, "finetuning_type=lora", "bf16=true",
                                                               "activation_checkpointing=cheap",
                                                               "per_device_train_batch_size=16")


def test_adafactor_warns_and_advises_a_rate(plan):
    assert "unstable at the start" in plan(*SMALL, "optim=adafactor")


def test_help_explains_the_words(tool):
    def explained(topic):
        return subprocess.run([str(tool("snug")), "help", topic], capture_output=True, text=True, check=True).stdout

    pages = [explained(word) for word in ("peak", "arena", "bound", "classes")]
    assert all(page in explained("memory") for page in pages)
    assert "reordered" in pages[3] and "most bytes are alive" in pages[0]
