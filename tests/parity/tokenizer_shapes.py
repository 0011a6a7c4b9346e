"""Tokenizers of each shape that snug reads, trained on a small made-up corpus, and texts for them."""

import functools
import json
import random
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK = [
    r"[\r\n]",
    r"\s?\p{L}+",
    r"\s?\p{P}+",
    "[一-龥ࠀ-一가-퟿]+",
    r"\p{N}",
]
POSSESSIVE = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"

SCRIPTS = [
    (0x61, 0x7A), (0x41, 0x5A), (0x30, 0x39), (0xC0, 0x17F), (0x3B1, 0x3C9), (0x410, 0x44F), (0x5D0, 0x5EA),
    (0x621, 0x64A), (0x905, 0x939), (0x93E, 0x94D), (0xE01, 0xE3A), (0xE40, 0xE4E), (0x10D0, 0x10F0),
    (0x1100, 0x1112), (0x3041, 0x3096), (0x30A1, 0x30FA), (0x4E00, 0x4F00), (0xAC00, 0xAD00), (0x300, 0x36F),
    (0x1F600, 0x1F64F), (0x20000, 0x20100), (0x660, 0x669), (0x2460, 0x2473), (0x21, 0x2F), (0x3A, 0x40),
    (0x2010, 0x2027), (0x20A0, 0x20BF), (0x2190, 0x21FF), (0xFE00, 0xFE0F), (0xFF01, 0xFF5E), (0x1D400, 0x1D4FF),
]  # fmt: skip
ODD = [
    " ", "  ", "   ", "\n", "\r\n", "\t", "\x0b", "\x0c", "\x1c", "\x1f", "\x7f", "\x00", "\x85", "\xa0", "\u1680",
    "\u180e", "\u2003", "\u200b", "\u200c", "\u200d", "\u2028", "\u2029", "\u202f", "\u205f", "\u2060", "\u3000",
    "\ufeff", "\ufffd", "\uffff", "\U0010ffff", "\ue000", "'s", "'S", "'ſ", "'LL", "'re", "’s", "K", "İ", "ß", "ẞ", "ǆ",
    "ﬁ", "ſ", "Ω", "Å", "e\u0301", "\u0301", "a\u0323\u0307", "a\u0307\u0323", "\u1100\u1161\u11a8", "각\u11a8", "\u0f71\u0f72",
    "👨‍👩‍👧‍👦", "🇩🇪", "☝🏽", "▁", "▁▁", "Ġ", "Ċ", "ą", "<0x41>", "<0xE2>", "<unk>", "_", "a_b", "x1y2", "½", "Ⅷ", "①", "²",
    "1234567", "3.14", "https://a.b/c?d=e&f", "if (x) {\n\treturn;\n}\n", "----", "$5", "^", "`", "~", "|", "+",
]  # fmt: skip
SPECIALS = ["<|bos|>", "<|eos|>", "<|im_start|>", "<|im_end|>"]


# Assigned in Unicode 15.0, which Python 3.12 knows and PCRE2 10.42 does not.
UNICODE_15 = [
    (0xCF3, 0xCF3), (0xECE, 0xECE), (0x10EFD, 0x10EFF), (0x1123F, 0x11241), (0x11B00, 0x11B09), (0x11F00, 0x11F59),
    (0x1342F, 0x1342F), (0x13439, 0x13455), (0x1B132, 0x1B132), (0x1B155, 0x1B155), (0x1D2C0, 0x1D2D3), (0x1DF25, 0x1DF2A),
    (0x1E030, 0x1E08F), (0x1E4D0, 0x1E4F9), (0x1F6DC, 0x1F6DC), (0x1F774, 0x1F776), (0x1F77B, 0x1F77F), (0x1F7D9, 0x1F7D9),
    (0x1FA75, 0x1FA77), (0x1FA87, 0x1FA88), (0x1FAAD, 0x1FAAF), (0x1FABB, 0x1FABF), (0x1FACE, 0x1FACF), (0x1FADA, 0x1FADB),
    (0x1FAE8, 0x1FAE8), (0x1FAF7, 0x1FAF8), (0x31350, 0x323AF),
]  # fmt: skip


def is_known(character):
    """Whether Unicode 14 has assigned it: the tables of the two sides differ beyond."""
    return unicodedata.category(character) != "Cn" and not any(a <= ord(character) <= b for a, b in UNICODE_15)


def letter(rng):
    while True:
        low, high = rng.choice(SCRIPTS)
        code = chr(rng.randint(low, high))
        if is_known(code):
            return code


def word(rng):
    low, high = rng.choice(SCRIPTS[:23])
    letters = [chr(c) for c in range(low, high + 1) if is_known(chr(c))]
    return "".join(rng.choice(letters) for _ in range(rng.randint(1, 9)))


@functools.cache
def corpus(seed=7, lines=1500):
    """Lines of made-up words in many scripts, frequent ones often."""
    rng = random.Random(seed)
    words = [word(rng) for _ in range(900)]
    weights = [1 / (i + 3) for i in range(len(words))]
    made = []
    for _ in range(lines):
        chosen = rng.choices(words, weights, k=rng.randint(3, 25))
        made.append(rng.choice([" ", " ", " ", ", ", "\n"]).join(chosen) + rng.choice([".", "!", "", "\n\n"]))
    return made


@functools.cache
def fuzz(seed, count, extra=()):
    """Texts of words, odd strings, special tokens, random characters and very long words."""
    rng = random.Random(seed)
    lines = corpus()
    texts = ["", " ", "a", "\n", *ODD, *extra]
    while len(texts) < count:
        parts = []
        for _ in range(rng.randint(1, 14)):
            kind = rng.random()
            if kind < 0.3:
                line = rng.choice(lines)
                start = rng.randrange(len(line))
                parts.append(line[start : start + rng.randint(1, 40)])
            elif kind < 0.6:
                parts.append(rng.choice(ODD))
            elif kind < 0.75:
                parts.append("".join(letter(rng) for _ in range(rng.randint(1, 6))))
            elif kind < 0.85:
                parts.append(rng.choice([*SPECIALS, *extra]))
            elif kind < 0.95:
                parts.append(rng.choice(" \n\t\r\u3000a0") * rng.randint(1, 9))
            else:
                parts.append(chr(rng.choice([rng.randint(0, 0xD7FF), rng.randint(0xE000, 0x10FFFF)])))
        texts.append(only_known("".join(parts)))
    texts.append("x" * 5000)
    texts.append("".join(rng.choice("abcde") for _ in range(3000)))
    texts.append("한국" * 700 + " " * 600 + "\n" * 300 + "x")
    texts.append("\u0301\u0323" * 300)
    return texts


def only_known(text):
    return "".join(c for c in text if is_known(c) or ord(c) in (0xFFFF, 0x10FFFF))


def trained(tokenizer, size=1400, specials=(), alphabet=True):
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(specials),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if alphabet else [],
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


def byte_level(pre_tokenizer, normalizer=None, **model):
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    return trained(tokenizer, specials=SPECIALS)


def split(*patterns):
    stages = [pre_tokenizers.Split(Regex(p), "isolated") for p in patterns]
    return pre_tokenizers.Sequence([*stages, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def with_bos(tokenizer, *more):
    bos = processors.TemplateProcessing("<|bos|> $A", "<|bos|> $A <|bos|> $B", [("<|bos|>", tokenizer.token_to_id("<|bos|>"))])
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), bos]) if more else bos
    return tokenizer


def edited(tokenizer, change):
    """The tokenizer whose JSON `change` has altered in place."""
    data = json.loads(tokenizer.to_str())
    change(data)
    return Tokenizer.from_str(json.dumps(data))


def llama3():
    tokenizer = with_bos(byte_level(split(LLAMA3)), "sequence")

    def ignore_merges(data):  # and tokens that no merge builds
        data["model"]["ignore_merges"] = True
        del data["model"]["merges"][::7]

    return edited(tokenizer, ignore_merges)


def old_merges():
    def as_strings(data):
        data["model"]["merges"] = [" ".join(pair) for pair in data["model"]["merges"]]

    return edited(byte_level(split(QWEN)), as_strings)


def add_qwen_tokens(tokenizer):
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", special=True), AddedToken("<|box|>", special=True)])
    tokenizer.add_tokens([AddedToken("<tool_call>", normalized=False), AddedToken("</tool_call>", normalized=False)])
    return tokenizer


def sentencepiece(byte_fallback=True, fuse_unk=True, unk="<unk>", normalizer=None, pre_tokenizer=None, drop_bytes=()):
    """Llama-2's shape: bytes <0x00> to <0xFF> at ids 3 to 258 (without `drop_bytes`)."""
    tokenizer = Tokenizer(models.BPE(unk_token=unk, byte_fallback=byte_fallback, fuse_unk=fuse_unk))
    tokenizer.normalizer = normalizer or None
    tokenizer.pre_tokenizer = pre_tokenizer or pre_tokenizers.Metaspace(prepend_scheme="never")
    bytes_ = [f"<0x{b:02X}>" for b in range(256) if b not in drop_bytes]
    trainer = trainers.BpeTrainer(vocab_size=1500, special_tokens=["<unk>", "<s>", "</s>", *bytes_], show_progress=False, limit_alphabet=250)
    tokenizer.train_from_iterator(corpus(), trainer)

    def bytes_are_plain(data):
        data["added_tokens"] = [t for t in data["added_tokens"] if not t["content"].startswith("<0x")]
        if not pre_tokenizer:
            data["pre_tokenizer"] = None

    tokenizer = edited(tokenizer, bytes_are_plain)
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", "<s> $A <s>:1 $B:1", [("<s>", 1), ("</s>", 2)])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def llama2(**options):
    return sentencepiece(normalizer=normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), **options)


def metaspace(scheme, cut, **options):
    tokenizer = sentencepiece(pre_tokenizer=pre_tokenizers.Metaspace("▁", scheme, cut), **options)
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace("▁", scheme, cut)])
    return tokenizer


def old_metaspace():
    def older(data):
        data["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}
        data["decoder"] = {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}

    return edited(metaspace("always", True), older)


def characters(pre_tokenizer, normalizer=None, fuse_unk=False):
    """No byte level: characters, some of them unknown, and no decoder."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=fuse_unk))
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=["<unk>"], limit_alphabet=150, show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


ADDED = ("ab", "abc", "abcd", "[L]", "[R]", "[LR]", "[W]", "one", "Été", "Ünd", "[LR] [LR]", " [R]  ", "x[W]", "[W]y", "_[W]", "[W]",
         " [L]", "  [L] [R]  [L]", "[W][W]", "é[W]", "(ONE)", "one two", "\u3000[LR]\u2003", "été", "e\u0301te\u0301")  # fmt: skip


def added(normalizer=None):
    tokenizer = byte_level(split(LLAMA3), normalizer)
    tokenizer.add_tokens(
        [
            "ab",
            AddedToken("abc", normalized=False),
            AddedToken("abcd", normalized=True),
            AddedToken("[L]", lstrip=True, normalized=False),
            AddedToken("[R]", rstrip=True, normalized=False),
            AddedToken("  ", normalized=False),
            AddedToken("[LR]", lstrip=True, rstrip=True),
            AddedToken("[W]", single_word=True),
            AddedToken("one", single_word=True, normalized=True),
            AddedToken("Été", normalized=True),
            AddedToken("Ünd", normalized=True, special=True),
        ]
    )
    return tokenizer


def shapes():
    """Name to the function that makes the tokenizer."""
    p, n = pre_tokenizers, normalizers
    made = {
        "llama3": llama3,
        "gpt2": lambda: byte_level(p.ByteLevel(add_prefix_space=False)),
        "gpt2-prefix": lambda: byte_level(p.ByteLevel(add_prefix_space=True)),
        "qwen-nfc": lambda: add_qwen_tokens(byte_level(split(QWEN), n.NFC())),
        "smollm": lambda: byte_level(p.Sequence([p.Digits(individual_digits=True), p.ByteLevel(add_prefix_space=False)])),
        "o200k": lambda: byte_level(split(O200K)),
        "deepseek": lambda: byte_level(split(*DEEPSEEK)),
        "possessive": lambda: byte_level(split(POSSESSIVE)),
        "old-merges": old_merges,
        "no-pre-tokenizer": lambda: byte_level(p.ByteLevel(add_prefix_space=False, use_regex=False)),
        "byte-level-first": lambda: byte_level(p.Sequence([p.ByteLevel(False), p.Digits(True)])),
        "llama2": llama2,
        "llama2-dropped-bytes": lambda: llama2(drop_bytes={0xE2, 0xCC, 0x80, 0xF0}),
        "llama2-unfused": lambda: llama2(drop_bytes={0xE2, 0xCC, 0x80, 0xF0}, fuse_unk=False),
        "llama2-no-unk": lambda: llama2(drop_bytes={0xE2, 0xCC}, unk=None),
        "no-fallback": lambda: llama2(byte_fallback=False),
        "no-fallback-unfused": lambda: llama2(byte_fallback=False, fuse_unk=False),
        "old-metaspace": old_metaspace,
        "digits-split": lambda: metaspace("always", True, normalizer=n.NFKC()),
        "metaspace-strip": lambda: metaspace("first", True, normalizer=n.Strip()),
        "added": added,
        "added-lowercase": lambda: added(n.Lowercase()),
        "added-nfc": lambda: added(n.Sequence([n.NFC(), n.Lowercase()])),
        "punctuation": lambda: byte_level(p.Sequence([p.Punctuation(), p.ByteLevel(False, use_regex=False)])),
        "digits": lambda: byte_level(p.Sequence([p.Digits(), p.ByteLevel(False, use_regex=False)])),
        "whitespace": lambda: characters(p.Whitespace()),
        "whitespace-split": lambda: characters(p.WhitespaceSplit(), fuse_unk=True),
        "strip-left": lambda: characters(p.WhitespaceSplit(), n.Strip(right=False)),
        "strip-right": lambda: characters(p.Whitespace(), n.Strip(left=False)),
        "replace-regex": lambda: characters(p.Whitespace(), n.Replace(Regex(r"\s+|x*"), "-")),
    }
    for scheme in ("always", "first", "never"):
        for cut in (True, False):
            made[f"metaspace-{scheme}-{'split' if cut else 'whole'}"] = functools.partial(metaspace, scheme, cut)
    for form in ("NFD", "NFKC", "NFKD", "Lowercase"):
        made[form] = lambda form=form: byte_level(p.ByteLevel(False), getattr(n, form)())
    for behavior in ("removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"):
        made[f"punctuation-{behavior}"] = lambda b=behavior: byte_level(
            p.Sequence([p.Punctuation(b), p.ByteLevel(False, use_regex=False)])
        )
        for invert in (False, True):
            for pattern in (" ", Regex(r"\s|[a-m]"), Regex(r"\d*")):
                name = f"split-{behavior}-{invert}-{pattern if pattern == ' ' else str(pattern)[7:-2]}"
                made[name] = lambda pattern=pattern, b=behavior, i=invert: byte_level(
                    p.Sequence([p.Split(pattern, b, i), p.ByteLevel(False, use_regex=False)])
                )
    return made
