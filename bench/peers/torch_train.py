#!/usr/bin/env python3
"""The other side of ./dev bench: trains a Hugging Face causal LM with PyTorch on the CPU and prints one JSON line.

The flags fix the work so that `snug bench step` can do the same: a model of a published shape with random weights (or
a folder), one fixed batch of random tokens, every position supervised, no padding, AdamW, clipping by global norm.
A step is timed from its first forward to the cleared gradients; `step_s` is the median without the first, which pays
for compiling and for first touches. `peak_rss_mib` is the process's own high-water mark (VmHWM).

SHAPE: tiny, smol135m, qwen0.5b, tinyllama1.1b.
"""

import argparse
import json
import statistics
import time

# hidden, MLP, layers, heads, KV heads, vocabulary, tied embeddings
SHAPES = {
    "tiny": (256, 688, 4, 4, 2, 4096, True),
    "smol135m": (576, 1536, 30, 9, 3, 49152, True),
    "qwen0.5b": (896, 4864, 24, 14, 2, 151936, True),
    "tinyllama1.1b": (2048, 5632, 22, 32, 4, 32000, False),
}


def peak_rss_mib():
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smol135m", help="a shape's name or a model folder")
    parser.add_argument("--batch", type=int, default=4, help="rows a micro-batch")
    parser.add_argument("--seq", type=int, default=512)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--accum", type=int, default=1, help="micro-batches a step")
    parser.add_argument("--mode", choices=["full", "lora"], default="full")
    parser.add_argument("--dtype", choices=["bf16", "purebf16", "fp32"], default="bf16",
                        help="bf16: fp32 weights under autocast; purebf16: bf16 weights and no autocast")
    parser.add_argument("--checkpointing", action="store_true", help="recompute every block in backward")
    parser.add_argument("--compile", action="store_true", help="torch.compile the model")
    parser.add_argument("--rank", type=int, default=16, help="of LoRA; alpha is twice the rank")
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--clip", type=float, default=1.0, help="global norm; 0 = off")
    parser.add_argument("--threads", type=int, default=0, help="0 = torch's own choice")
    parser.add_argument("--save", metavar="DIR", help="write the initial model in bf16 and stop")
    return parser.parse_args()


def load_model(name, seq):
    import torch
    import transformers
    if name not in SHAPES:
        return transformers.AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)
    hidden, mlp, layers, heads, kv_heads, vocabulary, tied = SHAPES[name]
    config = transformers.LlamaConfig(
        hidden_size=hidden, intermediate_size=mlp, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv_heads, vocab_size=vocabulary, tie_word_embeddings=tied,
        max_position_embeddings=max(2048, seq), rms_norm_eps=1e-5)
    config._attn_implementation = "sdpa"
    return transformers.LlamaForCausalLM(config)


def prepare(model, args):
    """The model as the flags want it trained: dtype, adapters, recomputation, compilation."""
    import torch
    if args.dtype == "purebf16" or (args.mode == "lora" and args.dtype == "bf16"):
        model = model.to(torch.bfloat16)
    model.config.use_cache = False
    if args.mode == "lora":
        import peft
        model = peft.get_peft_model(model, peft.LoraConfig(r=args.rank, lora_alpha=2 * args.rank, target_modules="all-linear"))
    if args.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if args.mode == "lora":
            model.enable_input_require_grads()
    model.train()
    return torch.compile(model) if args.compile else model


def train(model, parameters, args):
    """Seconds and mean loss of each step."""
    import torch
    optimizer = torch.optim.AdamW(parameters, lr=args.lr, fused=True)
    tokens = torch.randint(0, model.config.vocab_size, (args.accum, args.batch, args.seq),
                           generator=torch.Generator().manual_seed(1))
    seconds, losses = [], []
    for _ in range(args.steps):
        start = time.perf_counter()
        for rows in tokens:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.dtype == "bf16"):
                loss = model(input_ids=rows, labels=rows).loss / args.accum
            loss.backward()
        if args.clip:
            torch.nn.utils.clip_grad_norm_(parameters, args.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - start)
        losses.append(loss.item() * args.accum)
    return seconds, losses


def main():
    args = arguments()
    import torch
    import transformers  # noqa: F401  (its import is part of import_mib)
    if args.mode == "lora":
        import peft  # noqa: F401
    import_mib = peak_rss_mib()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = load_model(args.model, args.seq)
    if args.save:
        model.to(torch.bfloat16).save_pretrained(args.save)
        return
    model = prepare(model, args)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    seconds, losses = train(model, trained, args)
    step = statistics.median(seconds[1:] or seconds)
    print(json.dumps({
        "peer": f"torch {torch.__version__}", "model": args.model, "mode": args.mode, "dtype": args.dtype,
        "checkpointing": args.checkpointing, "compiled": args.compile, "batch": args.batch, "seq": args.seq,
        "accum": args.accum, "params": sum(parameter.numel() for parameter in model.parameters()),
        "trainable": sum(parameter.numel() for parameter in trained), "step_s": round(step, 4),
        "tokens_per_s": round(args.batch * args.seq * args.accum / step, 1), "peak_rss_mib": round(peak_rss_mib()),
        "import_mib": round(import_mib), "threads": torch.get_num_threads(),
        "losses": [round(loss, 4) for loss in losses],
    }))


if __name__ == "__main__":
    main()
