"""snug's tokenizer against the `tokenizers` package: equal ids and equal text, everywhere."""

import functools
import json
import random
import subprocess
import unicodedata

import pytest
import tokenizer_shapes as shapes
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

SHAPES = shapes.shapes()


class Snug:
    """One tokenizer.json in the program that answers JSON lines."""

    def __init__(self, tool, folder, tokenizer):
        self.tool = tool("tokenize_tool")
        self.path = folder / "tokenizer.json"
        self.path.write_text(tokenizer if isinstance(tokenizer, str) else tokenizer.to_str(), encoding="utf-8")

    def ask(self, requests):
        lines = "".join(json.dumps(r) + "\n" for r in requests)
        run = subprocess.run([self.tool, self.path], input=lines, capture_output=True, text=True, encoding="utf-8")
        assert run.returncode == 0, run.stderr
        return [json.loads(line) for line in run.stdout.split("\n") if line]

    def encode(self, texts, special=False):
        return [a["ids"] for a in self.ask({"text": t, "special": special} for t in texts)]


def assert_equal(texts, expected, got):
    assert len(expected) == len(got)
    wrong = [(t, e, g) for t, e, g in zip(texts, expected, got) if e != g]
    shortest = min(wrong, key=lambda w: len(str(w[0])), default=None)
    assert not wrong, f"{len(wrong)} of {len(texts)} differ, the shortest: {ascii(shortest)}"


@pytest.mark.parametrize("name", SHAPES)
def test_encode_and_decode_equal(name, tool, tmp_path):
    tokenizer = SHAPES[name]()
    snug = Snug(tool, tmp_path, tokenizer)
    seed = sum(map(ord, name))
    texts = shapes.fuzz(seed, 400, shapes.ADDED if name.startswith("added") else ())
    for special in (False, True):
        expected = [e.ids for e in tokenizer.encode_batch_fast(texts, add_special_tokens=special)]
        assert_equal(texts, expected, snug.encode(texts, special))

    rng = random.Random(seed)
    lists = [e.ids for e in tokenizer.encode_batch_fast(texts)][::2]
    lists += [[rng.randrange(tokenizer.get_vocab_size() + 3) for _ in range(rng.randint(0, 30))] for _ in range(150)]
    for skip in (False, True):
        expected = [tokenizer.decode(ids, skip_special_tokens=skip) for ids in lists]
        answers = snug.ask({"ids": ids, "skip": skip} for ids in lists)
        assert_equal(lists, expected, [a["text"] for a in answers])
        assert_equal(lists, expected, ["".join(a["pieces"]) for a in answers])


# Blocks of thousands of characters that no table tells apart; their ends are kept.
ALIKE = [(0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0x13000, 0x1342E), (0x14400, 0x14646), (0x17000, 0x187F7),
         (0x18B00, 0x18CD5), (0x20000, 0x2A6DF), (0x2A700, 0x2EBE0), (0x30000, 0x3134A), (0x1D400, 0x1D6A5)]  # fmt: skip


@functools.cache
def every_character():
    """Every assigned character up to Unicode 14 (the tables of the sides differ beyond), and some that never will be."""
    codes = (c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF)
    codes = (c for c in codes if not any(low + 40 < c < high - 40 for low, high in ALIKE))
    return [chr(c) for c in codes if c in (0xE000, 0xFFFF) or shapes.is_known(chr(c)) and unicodedata.category(chr(c)) != "Co"]


CUTS = {
    "whitespace": pre_tokenizers.Whitespace(),
    "whitespace-split": pre_tokenizers.WhitespaceSplit(),
    "digits": pre_tokenizers.Digits(),
    "punctuation": pre_tokenizers.Punctuation(),
    "llama3": pre_tokenizers.Split(Regex(shapes.LLAMA3), "isolated"),
    "o200k": pre_tokenizers.Split(Regex(shapes.O200K), "isolated"),
    "not-words": pre_tokenizers.Split(Regex(r"\W+|[\w-]+"), "isolated"),
    "words": pre_tokenizers.Split(Regex(r"\w+|[^\w\s]|\s+"), "isolated"),
    "caseless": pre_tokenizers.Split(Regex(r"(?i:[ks'd])+|\h+|[^\w\s]+"), "isolated"),
    "digit-class": pre_tokenizers.Split(Regex(r"\d+|[^\d\S]+"), "isolated"),
}


@pytest.mark.parametrize("name", CUTS)
def test_every_character_is_cut_alike(name, tool, tmp_path):
    # Each piece becomes one fused unknown token, but for x: the ids show the cuts.
    tokenizer = Tokenizer(models.BPE({"<unk>": 0, "x": 1}, [], unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer = CUTS[name]
    texts = [f"a{c}b {c}{c}1{c}1 '{c} x{c}xB{c}A" for c in every_character()]
    expected = [e.ids for e in tokenizer.encode_batch_fast(texts)]
    assert_equal(texts, expected, Snug(tool, tmp_path, tokenizer).encode(texts))


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Strip"])
def test_every_character_is_normalised_alike(form, tool, tmp_path):
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.normalizer = getattr(normalizers, form)()
    marks = "\u0301\u0323\u0327\u093c\u1161\u3099"
    texts = [f"{c}a{c}" + "".join(c + m for m in marks) + f"\u0323{c}{c}" for c in every_character()]
    expected = [e.ids for e in tokenizer.encode_batch_fast(texts)]
    assert_equal(texts, expected, Snug(tool, tmp_path, tokenizer).encode(texts))


def test_invalid_utf8_is_replaced_as_python_does(tool, tmp_path):
    tokenizer = SHAPES["gpt2"]()
    rng = random.Random(3)
    bits = [b"a", b"\x80", b"\xc3", b"\xc3\xa9", b"\xe2\x82", b"\xe2\x82\xac", b"\xed\xa0\x80", b"\xf0\x9f\x98", b"\xf0\x9f\x98\x80",
            b"\xf4\x90\x80\x80", b"\xc0\xaf", b"\xe0\x80\xaf", b"\xff", b"\xfe", b" "]  # fmt: skip
    texts = [b"".join(rng.choice(bits) for _ in range(rng.randint(1, 8))) for _ in range(500)]
    texts += [bytes(rng.randrange(256) for _ in range(rng.randint(1, 12))) for _ in range(500)]
    expected = [tokenizer.encode(t.decode("utf-8", "replace")).ids for t in texts]
    answers = Snug(tool, tmp_path, tokenizer).ask({"bytes": list(t), "special": True} for t in texts)
    assert_equal(texts, expected, [a["ids"] for a in answers])
