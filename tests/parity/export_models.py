"""Small models with real tokenizers, as folders that `snug export` reads."""

import json

import tokenizer_shapes as shapes
import torch
import transformers

TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
SMALL = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=256, initializer_range=0.1)
LLAMA3 = dict(rope_type="llama3", rope_theta=5e5, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=64)
LINEAR = dict(rope_type="linear", factor=2.5, rope_theta=2e4)


def closed(tokenizer):
    """With the merges that converting a sentencepiece model gives: every pair of tokens that makes a token."""

    def close(data):
        vocabulary = data["model"]["vocab"]
        special = {token["content"] for token in data["added_tokens"]}
        merges = []
        for token, _ in sorted(vocabulary.items(), key=lambda item: item[1]):
            if token in special or token.startswith("<0x"):
                continue
            pairs = [(token[:i], token[i:]) for i in range(1, len(token))]
            pairs = [pair for pair in pairs if pair[0] in vocabulary and pair[1] in vocabulary]
            merges += sorted(pairs, key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
        data["model"]["merges"] = [list(pair) for pair in merges]

    return shapes.edited(tokenizer, close)


def with_bos_only(tokenizer):
    """Llama-2's post-processor: a start, no end."""

    def no_end(data):
        data["post_processor"]["single"] = data["post_processor"]["single"][:2]

    return shapes.edited(tokenizer, no_end)


def sentencepiece():
    return with_bos_only(closed(shapes.llama2()))


def unprefixed():
    """Without a space before the text, and added tokens."""
    tokenizer = with_bos_only(closed(shapes.metaspace("never", False)))
    tokenizer.add_special_tokens([shapes.AddedToken("[INST]", normalized=False)])
    tokenizer.add_tokens([shapes.AddedToken("a▁word", normalized=False)])
    return tokenizer


def qwen():
    return shapes.add_qwen_tokens(shapes.byte_level(shapes.split(shapes.QWEN), shapes.normalizers.NFC()))


MODELS = {  # family, changes to the config, tokenizer, its start and end, the type of the weights
    "llama": ("llama", dict(rope_parameters=LLAMA3), shapes.llama3, ("<|bos|>", "<|eos|>"), torch.bfloat16),
    "llama-spm": ("llama", dict(tie_word_embeddings=True, num_key_value_heads=4, intermediate_size=80), sentencepiece,
                  ("<s>", "</s>"), torch.float32),
    "llama-biased": ("llama", dict(attention_bias=True, mlp_bias=True, rope_parameters=LINEAR),
                     lambda: shapes.shapes()["smollm"](), (None, "<|eos|>"), torch.float32),
    "mistral": ("mistral", dict(sliding_window=None, head_dim=32), unprefixed, ("<s>", "</s>"), torch.float16),
    "qwen2": ("qwen2", dict(tie_word_embeddings=True), qwen, (None, "<|im_end|>"), torch.bfloat16),
    "qwen3": ("qwen3", dict(head_dim=32), qwen, (None, "<|im_end|>"), torch.bfloat16),
}


def make(name, folder):
    """Writes the model and its tokenizer into `folder`; gives both."""
    family, changes, make_tokenizer, (bos, eos), dtype = MODELS[name]
    tokenizer = make_tokenizer()
    size = tokenizer.get_vocab_size() + 3  # rows that no token has
    ids = dict(bos_token_id=tokenizer.token_to_id(bos) if bos else None, eos_token_id=tokenizer.token_to_id(eos))
    torch.manual_seed(3)
    config = transformers.AutoConfig.for_model(family, **{**SMALL, **changes}, vocab_size=size, **ids)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    for parameter in model.parameters():  # biases and norms are constant at first
        if parameter.dim() == 1:
            parameter.data += torch.randn_like(parameter) * 0.1
    model.to(dtype).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    about = {"bos_token": bos, "eos_token": eos, "chat_template": TEMPLATE, "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    return model, tokenizer
