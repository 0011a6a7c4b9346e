"""Every key that transformers' configs have is read, without effect or refused: none is overlooked."""

import json

import pytest
import test_training as base
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

FAMILIES = ["llama", "mistral", "qwen2", "qwen3"]
# What no value changes in what a model computes; the rest is read or refused.
NO_EFFECT = {"_name_or_path", "chunk_size_feed_forward", "id2label", "label2id", "output_attentions", "output_hidden_states",
             "pretraining_tp", "problem_type", "return_dict", "transformers_version", "use_cache"}
# Written by snug only where the family's model has another value than the default.
OTHERWISE = {"architectures": ["OtherForCausalLM"], "attention_bias": True, "attention_dropout": 0.1, "bos_token_id": 7,
             "dtype": "bfloat16", "eos_token_id": 7, "head_dim": 64, "hidden_act": "gelu", "hidden_size": 1024,
             "initializer_range": 0.5, "intermediate_size": 96, "is_encoder_decoder": True, "max_position_embeddings": 99,
             "mlp_bias": True, "model_type": "gpt2", "num_attention_heads": 16, "num_hidden_layers": 3,
             "num_key_value_heads": 2, "pad_token_id": 9, "rms_norm_eps": 0.5,
             "rope_parameters": {"rope_type": "default", "rope_theta": 77.0}, "sliding_window": 5,
             "tie_word_embeddings": True, "vocab_size": 99, "use_sliding_window": True, "max_window_layers": 3,
             "layer_types": ["sliding_attention"] * 4}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_key_of_transformers_configs_is_read_without_effect_or_refused(tool, tmp_path, family):
    config = transformers.AutoConfig.for_model(family, **{**base.SMALL, "num_hidden_layers": 4, "num_attention_heads": 8,
                                                          "num_key_value_heads": 4, "hidden_size": 256})
    keys = set(config.to_dict()) | {key for key in type(config).__dataclass_fields__ if key in OTHERWISE}
    assert keys <= NO_EFFECT | set(OTHERWISE), "transformers has keys that snug's table should name"
    plain = {key: value for key, value in json.loads(config.to_json_string(use_diff=False)).items() if value is not None}
    if family.startswith("qwen"):
        plain.update(use_sliding_window=True, sliding_window=4, max_window_layers=2)
        plain.pop("layer_types", None)

    def read_by_snug(**changes):
        (tmp_path / "config.json").write_text(json.dumps({**plain, **changes}))
        return base.run(tool("formats_tool"), "config", tmp_path)

    before = read_by_snug()
    assert before.returncode == 0, before.stderr
    for key in sorted(keys):
        if key in NO_EFFECT:
            assert read_by_snug(**{key: {"0": "x"} if key.endswith("label") else "x"}).stdout == before.stdout, key
            continue
        if key == "use_sliding_window" and plain.get(key):
            after = read_by_snug(**{key: False})
        else:
            after = read_by_snug(**{key: OTHERWISE[key]})
        assert after.stdout != before.stdout or f"'{key}' is" in after.stderr or f"'{key}' makes" in after.stderr, key
    assert "is not known" in read_by_snug(something_new=1).stderr


@pytest.mark.parametrize("kind", [*ROPE_INIT_FUNCTIONS, "default", "something-new"])
def test_every_kind_of_rope_is_read_or_refused(tool, tmp_path, kind):
    more = {"linear": dict(factor=2.0), "llama3": {k: v for k, v in base.LLAMA3.items() if k not in ("rope_type", "rope_theta")}}
    rope = {"rope_type": kind, "rope_theta": 1e4, **more.get(kind, {})}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **base.SMALL, "rope_parameters": rope}))
    done = base.run(tool("formats_tool"), "config", tmp_path)
    if kind in ("default", "linear", "llama3"):
        assert json.loads(done.stdout)["rope_parameters"] == rope
    else:
        assert done.returncode == 1 and f"'{kind}'; snug supports default, linear and llama3" in done.stderr
    rope["partial_rotary_factor"] = 0.5
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **base.SMALL, "rope_parameters": rope}))
    assert base.run(tool("formats_tool"), "config", tmp_path).returncode == 1


def test_every_key_of_bitsandbytes_config_is_read_without_effect_or_refused(tool, tmp_path):
    def read_by_snug(**changes):
        quantised = {"quant_method": "bitsandbytes", "load_in_8bit": True, **changes}
        (tmp_path / "config.json").write_text(
            json.dumps({"model_type": "llama", **base.SMALL, "quantization_config": quantised}))
        return base.run(tool("formats_tool"), "config", tmp_path)

    for options in (dict(load_in_4bit=True, bnb_4bit_quant_type="nf4"), dict(load_in_8bit=True)):
        known = json.loads(json.dumps(transformers.BitsAndBytesConfig(**options).to_dict(), default=str))
        done = read_by_snug(**known)
        assert done.returncode == 0, done.stderr
    assert "llm_int8_has_fp16_weight" in read_by_snug(llm_int8_has_fp16_weight=True).stderr
    assert "quantization_config.something_new" in read_by_snug(something_new=1).stderr
