"""llama.cpp loads what `snug export export_format=gguf` writes: the same tokens, the same logits."""

import json
import subprocess

import export_models
import llama_cpp
import numpy
import pytest
import tokenizer_shapes
import torch
import transformers

WORDS = " ".join(tokenizer_shapes.corpus()[:3])[:160]
# llama.cpp and the tokenizer differ by design in NFC, and in characters that regular expressions class by other
# versions of Unicode: the texts are of scripts that both know well, normalised.
TEXTS = [
    "Hello, world! It's 12345 o'clock; they'll say 'we're done', won't they?", "  two  spaces\n\n\nand\tlines \r\n end  ",
    "def f(x):\n    return x ** 2  # 3.14", "Ünïcödé, ¿qué? 中文字符，日本語 한국어 русский עברית", "👨‍👩‍👧‍👦 🇩🇪 ✓ €5", "a", " a", "",
    "1 22 333 4444 55555", "CamelCase_and-more... (really)!", WORDS,
]  # fmt: skip


@pytest.fixture(scope="module", params=export_models.MODELS)
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / request.param
    folder.mkdir()
    return request.param, folder, *export_models.make(request.param, folder)


def export(tool, folder, output, dtype):
    words = [tool("snug"), "export", f"model={folder}", f"output_dir={output}", "export_format=gguf",
             f"export_dtype={dtype}", "--json"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["path"]


def load(path, **options):
    return llama_cpp.Llama(model_path=path, n_ctx=256, n_threads=2, logits_all=True, verbose=False, **options)


def test_tokens_are_the_same(tool, tmp_path, made):
    name, folder, _, tokenizer = made
    theirs = load(export(tool, folder, tmp_path, "fp16"), vocab_only=True)
    special = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.content.startswith(("<|", "["))]
    texts = [*TEXTS, *(f"{token}user {token}\nhi{token}" for token in special)]
    for text in texts:
        for bos in (False, True):
            got = theirs.tokenize(text.encode(), add_bos=bos, special=True)
            # Without any text sentencepiece's prefix is left out by both; llama.cpp adds nothing but the start.
            assert got == tokenizer.encode(text, add_special_tokens=bos).ids, (text, bos)


# fp16 weights against the same rounded weights: what is left is the order of sums, fp16 keys and values, and
# ggml's fp16 copies of activations in front of fp16 products (11 bits of mantissa).
# q8_0's weights are rounded on both sides; ggml rounds activations in front of its products to q8_0 as well.
LIMITS = {"fp32": 1e-2, "fp16": 1e-2, "bf16": 5e-2, "q8_0": 5e-2}


def round_to_q8_0(model):
    """Every matrix in blocks of 32: codes of 8 bits times an fp16 scale (ggml's block_q8_0)."""
    for parameter in model.parameters():
        if parameter.dim() == 2 and parameter.shape[1] % 32 == 0:
            blocks = parameter.data.view(-1, 32)
            scale = blocks.abs().amax(1, keepdim=True) / 127
            codes = torch.where(scale > 0, blocks / scale, 0).round()
            blocks.copy_(codes * scale.half().float())


@pytest.mark.parametrize("dtype", LIMITS)
def test_logits_are_the_same(tool, tmp_path, made, dtype):
    name, folder, model, tokenizer = made
    path = export(tool, folder, tmp_path, dtype)
    ids = tokenizer.encode("Hello, world! It's 12345 o'clock. " + WORDS).ids[:96]
    ids = [id for id in ids if id < model.config.vocab_size]
    rounded = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    if dtype == "q8_0":
        round_to_q8_0(rounded)
    with torch.no_grad():
        expected = rounded.eval()(torch.tensor([ids])).logits[0].numpy()
    theirs = load(path)
    theirs.eval(ids)
    got = numpy.array(theirs.scores[: len(ids)])
    assert numpy.linalg.norm(got - expected, axis=1).max() <= LIMITS[dtype] * numpy.linalg.norm(expected, axis=1).min()
    if dtype == "fp16":
        assert numpy.abs(got - expected).max() <= 1e-2
    assert (got.argmax(1) == expected.argmax(1)).mean() >= (0.9 if dtype in ("bf16", "q8_0") else 0.98)


def test_generation_ends_at_the_end_token(tool, tmp_path, made):
    name, folder, model, tokenizer = made
    theirs = load(export(tool, folder, tmp_path, "fp16"), vocab_only=True)
    assert theirs.token_eos() == model.config.eos_token_id
    if model.config.bos_token_id is not None:
        assert theirs.token_bos() == model.config.bos_token_id
    assert theirs.metadata["tokenizer.chat_template"] == export_models.TEMPLATE
