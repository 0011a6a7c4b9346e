"""torch + transformers + peft at the work of one row of the benchmark: peer.py SHAPE KIND ROWS LENGTH."""

import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

SHAPES = {
    "qwen2.5-0.5b": (Qwen2Config, 896, 24, 14, 2, 4864, 151936, True),
    "qwen2.5-1.5b": (Qwen2Config, 1536, 28, 12, 2, 8960, 151936, True),
    "qwen2.5-3b": (Qwen2Config, 2048, 36, 16, 2, 11008, 151936, True),
    "qwen2.5-7b": (Qwen2Config, 3584, 28, 28, 4, 18944, 152064, False),
    "qwen2.5-14b": (Qwen2Config, 5120, 48, 40, 8, 13824, 152064, False),
    "llama-3.1-8b": (LlamaConfig, 4096, 32, 32, 8, 14336, 128256, False),
}


def build(shape, kind):
    config_class, hidden, layers, heads, groups, wide, vocabulary, tied = SHAPES[shape]
    config = config_class(hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
                          num_key_value_heads=groups, intermediate_size=wide, vocab_size=vocabulary,
                          tie_word_embeddings=tied, attn_implementation="sdpa", dtype="bfloat16")
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config)
    if kind == "full":
        return model
    from peft import LoraConfig, get_peft_model

    if kind == "qlora":
        import bitsandbytes

        for name, module in list(model.named_modules()):
            if not isinstance(module, torch.nn.Linear) or name == "lm_head":
                continue
            packed = bitsandbytes.nn.Linear4bit(module.in_features, module.out_features, module.bias is not None,
                                                compute_dtype=torch.bfloat16, quant_type="nf4")
            packed.load_state_dict(module.state_dict())
            parent = model.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], packed.cuda())
    return get_peft_model(model, LoraConfig(r=16, lora_alpha=16, target_modules="all-linear"))


def main():
    shape, kind, rows, length = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    model = build(shape, kind)
    model.train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if kind != "full":
        model.enable_input_require_grads()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True)
    # The largest micro-batch that fits, halving from all rows or 64.
    micro = min(rows, 64)
    while True:
        try:
            seconds = []
            for step in range(4):
                torch.cuda.synchronize()
                start = time.time()
                for _ in range(rows // micro):
                    ids = torch.randint(100, 100_000, (micro, length), device="cuda")
                    model(input_ids=ids, labels=ids).loss.backward()
                torch.nn.utils.clip_grad_norm_(trained, 1.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                torch.cuda.synchronize()
                if step >= 1:
                    seconds.append(time.time() - start)
            break
        except torch.OutOfMemoryError:
            optimizer.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
            if micro == 1:
                raise
            micro //= 2
    middle = sorted(seconds)[len(seconds) // 2]
    print(json.dumps({"tokens_per_second": round(rows * length / middle, 1), "micro_batch": micro,
                      "allocated_mib": torch.cuda.max_memory_allocated() / 2**20, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
