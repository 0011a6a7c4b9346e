"""Generation equals transformers': logits, greedy tokens, the commands' output."""

import json
import re
import subprocess

import numpy
import pytest
import torch
import transformers

SMALL = dict(hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=3,
             vocab_size=131, max_position_embeddings=128, bos_token_id=1, eos_token_id=2, initializer_range=0.15)
LLAMA3 = dict(rope_type="llama3", rope_theta=5e5, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=16)
MODELS = {
    "llama": ("llama", dict(rope_parameters=LLAMA3)),
    "llama-tied-biased": ("llama", dict(attention_bias=True, mlp_bias=True, tie_word_embeddings=True, head_dim=10)),
    "mistral-window": ("mistral", dict(sliding_window=7, head_dim=16)),
    "qwen2": ("qwen2", dict(tie_word_embeddings=True)),
    "qwen3": ("qwen3", dict(head_dim=12)),
    "qwen3-window": ("qwen3", dict(use_sliding_window=True, sliding_window=8, head_dim=16,
                                   layer_types=["sliding_attention", "full_attention", "sliding_attention"])),
}
PROMPT = 21
NEW = 32


def make_model(name, folder):
    family, changes = MODELS[name]
    torch.manual_seed(3)
    config = transformers.AutoConfig.for_model(family, **{**SMALL, **changes})
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    for parameter in model.parameters():  # biases and norms are constant at first
        if parameter.dim() == 1:
            parameter.data += torch.randn_like(parameter) * 0.1
    # Tied weights repeat the last token unless the layers say more than the embedding does.
    model.get_input_embeddings().weight.data *= 0.1
    model.save_pretrained(folder)
    return model


def run(tool, *words):
    done = subprocess.run([tool, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", MODELS)
def test_logits_and_greedy_tokens_equal(tool, tmp_path, name):
    model = make_model(name, tmp_path)
    prompt = torch.randint(3, SMALL["vocab_size"], (1, PROMPT), generator=torch.Generator().manual_seed(5))
    words = [tmp_path, tmp_path / "logits", 8, NEW, *prompt[0].tolist()]
    tokens = json.loads(run(tool("generate_tool"), *words))
    with torch.no_grad():
        expected = model(prompt).logits[0].numpy()
        theirs = model.generate(prompt, max_new_tokens=NEW, do_sample=False)[0, PROMPT:].tolist()
    logits = numpy.fromfile(tmp_path / "logits", numpy.float32).reshape(PROMPT + 1, -1)
    for ours, their in zip(logits, [*expected, expected[-1]], strict=True):
        assert numpy.linalg.norm(ours - their) <= 1e-4 * numpy.linalg.norm(their)
    assert tokens == theirs
    assert len(set(tokens)) > 3  # a model that says one thing only would agree with much


@pytest.fixture(scope="module")
def demo(tool, tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "folder"
    run(tool("snug"), "demo", "make", f"output_dir={folder}")
    return folder


def test_the_command_says_what_transformers_says(tool, demo):
    tokenizer = transformers.AutoTokenizer.from_pretrained(demo / "model")
    model = transformers.AutoModelForCausalLM.from_pretrained(demo / "model", dtype=torch.float32).eval()
    prompt = "sort planet ="
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    with torch.no_grad():
        theirs = model.generate(ids, max_new_tokens=16, do_sample=False)[0, ids.shape[1]:]
    words = ["generate", f"model={demo / 'model'}", f"prompt={prompt}", "max_new_tokens=16", "bf16=false", "--json"]
    said = json.loads(run(tool("snug"), *words))
    assert said["token_ids"] == theirs.tolist()
    assert said["text"] == tokenizer.decode(theirs, skip_special_tokens=True)
    assert said["prompt_tokens"] == ids.shape[1] and said["new_tokens"] == len(theirs)
    assert said["planned_peak_bytes"] == said["used_peak_bytes"] > 0
    assert said["schema"] == 1 and said["prompt"] == prompt and said["tokens_per_second"] > 0


def test_a_folder_in_fp16_is_read_without_loss(tool, demo, tmp_path):
    """As fp16, evaluation rounds to 11 bits; generation keeps what is stored in fp32."""
    transformers.AutoModelForCausalLM.from_pretrained(demo / "model", dtype=torch.float16).save_pretrained(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(demo / "model")
    tokenizer.save_pretrained(tmp_path)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ids = tokenizer("sort planet =", return_tensors="pt").input_ids
    theirs = model.generate(ids, max_new_tokens=16, do_sample=False)[0, ids.shape[1]:]
    words = ["generate", f"model={tmp_path}", "prompt=sort planet =", "max_new_tokens=16", "--json"]
    for precision in ([], ["fp16=true"]):
        said = json.loads(run(tool("snug"), *words, *precision))
        assert said["token_ids"][:4] == theirs.tolist()[:4]
        assert precision or said["token_ids"] == theirs.tolist()
    row = json.loads((demo / "questions.jsonl").read_text().splitlines()[0])
    rows = tmp_path / "rows.jsonl"
    ids = tokenizer(row["prompt"] + row["completion"]).input_ids
    rows.write_text(json.dumps({"input_ids": ids, "labels": ids}) + "\n")
    with torch.no_grad():
        loss = model(torch.tensor([ids]), labels=torch.tensor([ids])).loss.item()
    said = [json.loads(run(tool("snug"), "eval", f"model={tmp_path}", f"data={rows}", "append_eos=false", "--json", *more))
            for more in ([], ["bf16=false"], ["bf16=true"])]
    off = [abs(s["eval_loss"] / loss - 1) for s in said]
    assert off[1] < 1e-4 and off[0] < 2e-3 and off[2] < 2e-2
    assert said[0]["eval_loss"] != said[1]["eval_loss"] != said[2]["eval_loss"]


def test_draws_follow_the_seed(tool, demo):
    words = ["generate", f"model={demo / 'model'}", "prompt=sort planet =", "max_new_tokens=16", "do_sample=true",
             "temperature=2", "top_p=0.9", "--json"]
    said = [json.loads(run(tool("snug"), *words, f"seed={seed}"))["token_ids"] for seed in (1, 1, 2)]
    assert said[0] == said[1] != said[2]


def test_the_demo_model_is_whole(demo):
    tokenizer = transformers.AutoTokenizer.from_pretrained(demo / "model")
    ids = tokenizer("sort planet = aelnpt").input_ids
    assert tokenizer.convert_ids_to_tokens(ids) == ["<s>", "sort", "Ġ", *"planet", "Ġ=", "Ġ", *"aelnpt"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "sort planet = aelnpt"
    for text in ["Ünïcode, 東京 🙂\n\ttabs", "sortsort = =="]:
        assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text
    model, report = transformers.AutoModelForCausalLM.from_pretrained(demo / "model", output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.dtype == torch.bfloat16 and len(tokenizer) == model.config.vocab_size


def test_inspect_marks_what_is_trained(tool, demo):
    words = ["inspect", f"model={demo / 'model'}", f"data={demo / 'train.jsonl'}", "rows=2", "--json"]
    shown = json.loads(run(tool("snug"), *words))
    row = json.loads((demo / "train.jsonl").read_text().splitlines()[1])
    second = shown["shown"][1]
    assert second["segments"] == [{"trained": False, "text": "<s>" + row["prompt"]},
                                  {"trained": True, "text": row["completion"] + "</s>"}]
    assert second["trained_tokens"] == len(row["completion"]) + 1 and second["place"].endswith("train.jsonl:2")
    assert len(shown["shown"]) == 2 and shown["rows"] > 1000 and shown["dropped"] == 0


def test_inspect_sums_up_a_model(tool, demo):
    model = transformers.AutoModelForCausalLM.from_pretrained(demo / "model")
    said = json.loads(run(tool("snug"), "inspect", f"model={demo / 'model'}", "--json"))
    assert said["parameters"] == model.num_parameters() and said["family"] == "llama"
    assert said["tensors"] == {"BF16": {"count": len(list(model.parameters())), "bytes": 2 * model.num_parameters()}}
    assert said["stop_tokens"] == [1]


def check_demo_talk(talk, said):
    """Plan, the trainer's end and the summary name the same figures."""
    def mebibytes(key):
        return f"{said[key] / 2**20:.2f} MiB"

    arena, needed, plain = map(mebibytes, ("planned_peak_bytes", "needed_bytes", "plain_peak_bytes"))
    plain_needed = mebibytes("plain_needed_bytes")
    assert f"  needs {needed} (arena {arena}, outside it " in talk
    assert f"plain training needs {plain_needed} (arena {plain}, outside it " in talk
    for sum_of, part, rest in re.findall(r"needs ([\d.]+) MiB \(arena ([\d.]+) MiB, outside it ([\d.]+) MiB\)", talk):
        assert float(sum_of) >= float(part) + float(rest) - 0.02
    assert f"\nfits: {needed.split()[0]} of " in talk
    assert talk.count(f"arena {arena} planned, {arena} used · process {needed} planned, ") == 2
    assert f"plain training: arena {plain}, " in talk


def test_the_demo_learns_within_its_budget(tool, tmp_path):
    finished = subprocess.run([str(tool("snug")), "demo", f"output_dir={tmp_path / 'demo'}", "--json"],
                              capture_output=True, text=True, check=True)
    said = json.loads(finished.stdout)
    check_demo_talk(finished.stderr, said)
    assert said["right_after"] >= 0.9 * said["questions"] > said["right_before"]
    assert said["planned_peak_bytes"] == said["used_peak_bytes"] < said["plain_peak_bytes"]
    assert said["needed_bytes"] <= said["budget_bytes"] < said["plain_needed_bytes"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "demo" / "trained")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "demo" / "trained")
    rows = [json.loads(line) for line in (tmp_path / "demo" / "questions.jsonl").read_text().splitlines()[:20]]
    right = 0
    for row in rows:
        ids = tokenizer(row["prompt"], return_tensors="pt").input_ids
        answer = model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1]:]
        right += tokenizer.decode(answer, skip_special_tokens=True) == row["completion"]
    assert right >= 0.9 * len(rows)
