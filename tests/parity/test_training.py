"""Training is transformers' training: loss, logits, gradients and updated weights of tiny random models in fp32.

Tolerances: a sum of k fp32 products is off by about sqrt(k) x 6e-8 of its size; the chains here are some hundred terms
through a few layers, and AdamW's division by the root of the second moment magnifies what is small. 1e-4 leaves room
for that and for nothing else.
"""

import json
import re
import subprocess

import pytest
import safetensors.torch
import torch
import transformers

TOLERANCE = 1e-4
NOTHING = 1e-7  # a norm below this is compared absolutely
STEPS = 10
SMALL = dict(hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=3,
             vocab_size=131, max_position_embeddings=64, bos_token_id=1, eos_token_id=2)
LLAMA3 = dict(rope_type="llama3", rope_theta=5e5, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=16)
ODD = [23, 7, 17]
# name: family, changes to the config, lengths of the rows
MODELS = {
    "llama": ("llama", {}, ODD),
    "llama-tied-llama3": ("llama", dict(tie_word_embeddings=True, rope_parameters=LLAMA3), ODD),
    "llama-linear-biased": ("llama", dict(rope_parameters=dict(rope_type="linear", factor=2.5, rope_theta=2e4),
                                          attention_bias=True, mlp_bias=True), [13]),
    "mistral-window": ("mistral", dict(sliding_window=5, head_dim=8), ODD),
    "mistral-tied": ("mistral", dict(sliding_window=None, tie_word_embeddings=True, num_key_value_heads=6), [31, 2]),
    "qwen2": ("qwen2", {}, ODD),
    "qwen2-tied-gpt2-vocabulary": ("qwen2", dict(tie_word_embeddings=True, vocab_size=50257, hidden_size=16,
                                                 num_attention_heads=2, num_key_value_heads=1), [11]),
    "qwen2-window": ("qwen2", dict(use_sliding_window=True, sliding_window=5, max_window_layers=1), ODD),
    "qwen3": ("qwen3", dict(head_dim=12), ODD),
    "qwen3-tied-multi-query": ("qwen3", dict(head_dim=16, num_key_value_heads=1, tie_word_embeddings=True), [19]),
}
PLAIN = ["bf16=false", "append_eos=false", "threads=2", "activation_checkpointing=false"]


def make_model(name):
    family, changes, lengths = MODELS[name]
    config = transformers.AutoConfig.for_model(family, **{**SMALL, **changes}, attn_implementation="eager")
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).train()
    with torch.no_grad():
        for name, parameter in model.named_parameters():  # fresh norms are 1 and biases 0: any mix-up would pass
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
            else:
                parameter.mul_(3)
    return model, make_rows(config.vocab_size, lengths)


def make_rows(vocabulary, lengths, seed=1):
    """Rows whose first third is prompt: not trained on."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for length in lengths:
        ids = torch.randint(0, vocabulary, (length,), generator=generator).tolist()
        rows.append({"input_ids": ids, "labels": [-100] * (length // 3) + ids[length // 3:]})
    return rows


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def theirs(model, rows):
    """transformers' logits by row, and the mean loss over all labels, as a function of the weights."""
    logits = [model(torch.tensor([row["input_ids"]])).logits[0] for row in rows]
    labels = [torch.tensor(row["labels"]) for row in rows]
    total = sum(torch.nn.functional.cross_entropy(x[:-1], y[1:], reduction="sum") for x, y in zip(logits, labels))
    return logits, total / sum(int((y[1:] != -100).sum()) for y in labels)


def off(ours, expected):
    """||a - b|| / ||b||, or ||a - b|| where b is nothing."""
    assert ours.shape == expected.shape
    size = expected.double().norm()
    difference = (ours.double() - expected.double()).norm()
    return (difference if size < NOTHING else difference / size).item()


def assert_close(ours, expected, tolerance=TOLERANCE):
    assert set(ours) == set(expected)
    wrong = {name: off(ours[name], expected[name]) for name in expected}
    assert not {name: error for name, error in wrong.items() if not error <= tolerance}


def run(*words):
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def step_tool(tool):
    """step_tool(what, folder, rows, out, key=value, ...): the tensors it wrote."""
    def call(what, folder, rows, out, *settings):
        done = run(tool("step_tool"), what, folder, rows, out, *settings)
        assert done.returncode == 0, done.stderr
        return safetensors.torch.load_file(out)

    return call


def train(tool, folder, rows, output, *settings):
    done = run(tool("snug"), "train", f"model={folder}", f"data={rows}", f"output_dir={output}", "--json",
               "train_sampling_strategy=sequential", "save_strategy=no", *settings)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def adamw_steps(model, rows, steps):
    """What transformers' Trainer does with weight_decay=0.1: norms and biases are left out of it."""
    plain = [p for p in model.parameters() if p.ndim == 1]
    decayed = [p for p in model.parameters() if p.ndim > 1]
    optimizer = torch.optim.AdamW([dict(params=decayed, weight_decay=0.1), dict(params=plain, weight_decay=0.0)],
                                  lr=1e-3, betas=(0.9, 0.999), eps=1e-8)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, 2, steps)
    history = []
    for _ in range(steps):
        _, loss = theirs(model, rows)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        history.append((loss.item(), norm.item(), schedule.get_last_lr()[0]))
        optimizer.step()
        schedule.step()
    return history


@pytest.mark.parametrize("name", MODELS)
def test_training_equals_transformers(tool, step_tool, tmp_path, name):
    model, rows = make_model(name)
    model.save_pretrained(tmp_path / "model")
    file = write_rows(tmp_path / "rows.jsonl", rows)

    logits, loss = theirs(model, rows)
    loss.backward()
    ours = step_tool("logits", tmp_path / "model", file, tmp_path / "logits.safetensors", *PLAIN)
    assert_close(ours, {f"logits/{r}": x.detach() for r, x in enumerate(logits)})
    gradients = step_tool("gradients", tmp_path / "model", file, tmp_path / "gradients.safetensors", *PLAIN)
    gradients.pop("flops/recomputed")
    expected = {f"{key}.grad": p.grad for key, p in model.named_parameters()}
    assert_close(gradients, {**expected, "metric/loss": loss.detach()})

    history = adamw_steps(model, rows, STEPS)
    train(tool, tmp_path / "model", file, tmp_path / "run", *PLAIN, f"max_steps={STEPS}", "learning_rate=1e-3",
          "weight_decay=0.1", "max_grad_norm=1", "lr_scheduler_type=linear", "warmup_steps=2",
          f"per_device_train_batch_size={len(rows)}")
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [(m["loss"], m["grad_norm"], m["learning_rate"]) for m in metrics]
    assert steps == [pytest.approx(step, rel=TOLERANCE) for step in history]

    trained = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "run", attn_implementation="eager")
    assert trained.dtype == torch.float32
    assert_close({key: p.detach() for key, p in trained.named_parameters()},
                 {key: p.detach() for key, p in model.named_parameters()})
    # The folder means the same to both: snug's logits of it are transformers' logits of it.
    ours = step_tool("logits", tmp_path / "run", file, tmp_path / "trained.safetensors", *PLAIN)
    assert_close(ours, {f"logits/{r}": x.detach() for r, x in enumerate(theirs(trained, rows)[0])})


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """A folder with a model of four layers, and a file of eight rows of unequal lengths."""
    folder = tmp_path_factory.mktemp("deep")
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model("qwen3", **{**SMALL, "num_hidden_layers": 4, "head_dim": 16})
    transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    return folder, write_rows(folder / "rows.jsonl", make_rows(config.vocab_size, [5, 33, 18, 40, 2, 27, 11, 36]))


def test_eight_micro_batches_of_one_row_equal_one_of_eight(step_tool, deep, tmp_path):
    whole, single = (step_tool("gradients", *deep, tmp_path / f"{rows}.safetensors", *PLAIN,
                               f"per_device_train_batch_size={rows}") for rows in (8, 1))
    assert_close(single, whole, 1e-6)


def test_packed_rows_equal_rows_apart(step_tool, deep, tmp_path):
    apart = step_tool("gradients", *deep, tmp_path / "apart.safetensors", *PLAIN)
    for length in (40, 64, 200):
        packed = step_tool("gradients", *deep, tmp_path / "packed.safetensors", *PLAIN, "packing=true",
                           f"max_length={length}")
        assert packed.pop("flops/recomputed") == 0
        assert_close(packed, {name: x for name, x in apart.items() if name != "flops/recomputed"}, 1e-6)


def test_mlp_in_tiles_equals_the_whole(step_tool, deep, tmp_path):
    plain = step_tool("gradients", *deep, tmp_path / "plain.safetensors", *PLAIN, "activation_checkpointing=true")
    for chunks in (2, 7):
        tiled = step_tool("gradients", *deep, tmp_path / "tiled.safetensors", *PLAIN, "activation_checkpointing=true",
                          f"mlp_chunks={chunks}")
        assert_close(tiled, plain, 1e-6)
        # Products are row-invariant: only the weight gradients of the MLP are summed in another order.
        same = [name for name in plain if torch.equal(plain[name], tiled[name])]
        assert "metric/loss" in same and "model.layers.0.self_attn.q_proj.weight.grad" in same
        assert "model.layers.0.mlp.down_proj.weight.grad" not in same


def tightest_limit(tool, deep, tmp_path, *settings):
    """Each bucket of lengths names the tightest limit for itself."""
    limit = 1
    for _ in range(9):
        done = run(tool("step_tool"), "gradients", *deep, tmp_path / "out.safetensors", *settings,
                   f"activation_checkpointing={limit}B")
        if done.returncode == 0:
            return limit
        limit = int(re.search(r"tightest that works: activation_checkpointing=(\d+)B", done.stderr)[1])
    pytest.fail("no limit works")


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
def test_recomputing_and_threads_change_no_bit(tool, step_tool, deep, tmp_path, bf16):
    def gradients(threads, policy):
        tensors = step_tool("gradients", *deep, tmp_path / "out.safetensors", f"bf16={str(bf16).lower()}",
                            "per_device_train_batch_size=3", f"threads={threads}",
                            f"activation_checkpointing={policy}")
        recomputed = tensors.pop("flops/recomputed").item()
        return recomputed, {name: tensor.flatten().view(torch.uint8) for name, tensor in tensors.items()}

    def assert_same(one, other, what):
        assert set(one) == set(other)
        assert not [name for name in one if not torch.equal(one[name], other[name])], what

    nothing, plain = gradients(2, "false")
    assert nothing == 0
    least = tightest_limit(tool, deep, tmp_path, f"bf16={str(bf16).lower()}", "per_device_train_batch_size=3")
    for policy in ["true", "cheap", "every:2", "segments:2", "keep_attention", "sqrt", f"{least}B", f"{least * 9 // 8}B"]:
        something, recomputed = gradients(2, policy)
        assert something > 0
        assert_same(recomputed, plain, policy)
    for threads in (1, 3):
        assert_same(gradients(threads, "false")[1], plain, f"{threads} threads")
