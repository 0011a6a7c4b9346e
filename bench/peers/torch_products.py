#!/usr/bin/env python3
"""The matrix products of one training step alone, in fp32, as PyTorch runs them under a capped instruction set.

What a capped step of snug is compared with by ./dev bench: forward, input gradient and weight gradient of every linear
layer and of the head, each layer with weights of its own, so that they come from memory as they do in a step. Each
product is timed through oneDNN (torch.ops.mkldnn) and through what torch.mm calls, and the faster library counts.
Prints one JSON line; step_s is the median over steps without the first.
"""

import argparse
import json
import os
import statistics
import time

from torch_train import SHAPES, peak_rss_mib

CAPS = {"avx2": ("AVX2", "AVX2"), "avx512": ("AVX512_CORE", "AVX512")}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smol135m", choices=SHAPES)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seq", type=int, default=512)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--accum", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--isa", choices=CAPS, required=True)
    return parser.parse_args()


def layers_of(model):
    """(in, out) of every linear layer, the head last."""
    hidden, mlp, layers, heads, kv_heads, vocabulary, _ = SHAPES[model]
    kv = hidden // heads * kv_heads
    block = [(hidden, hidden), (hidden, kv), (hidden, kv), (hidden, hidden), (hidden, mlp), (hidden, mlp), (mlp, hidden)]
    return block * layers + [(hidden, vocabulary)]


def by_onednn(torch, a, b):
    """a [m, k] times b [n, k] transposed."""
    return torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")


def by_default(_, a, b):
    return a @ b.t()


def products(torch, product, x, dy, weight):
    product(torch, x, weight)           # y = x w^T
    product(torch, dy, weight.t())      # dx = dy w
    product(torch, dy.t(), x.t())       # dw = dy^T x


def seconds_of_step(torch, product, weights, rows):
    total = 0.0
    for weight in weights:
        out, width = weight.shape
        # The head's rows in pieces, as trainers chunk them: the logits would not fit caches or memory.
        piece = rows if out < 8 * width else min(rows, 512)
        x, dy = torch.randn(piece, width), torch.randn(piece, out)
        start = time.perf_counter()
        for _ in range(rows // piece):
            products(torch, product, x, dy, weight)
        total += time.perf_counter() - start
    return total


def main():
    args = arguments()
    os.environ["ONEDNN_MAX_CPU_ISA"], os.environ["MKL_ENABLE_INSTRUCTIONS"] = CAPS[args.isa]
    import torch
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    weights = [torch.randn(out, width) for width, out in layers_of(args.model)]
    rows = args.batch * args.seq
    times = {}
    with torch.no_grad():
        for name, product in (("oneDNN", by_onednn), ("torch.mm", by_default)):
            steps = [args.accum * seconds_of_step(torch, product, weights, rows) for _ in range(args.steps)]
            times[name] = statistics.median(steps[1:] or steps)
    library, step = min(times.items(), key=lambda item: item[1])
    print(json.dumps({"peer": f"torch {torch.__version__} fp32 products, {args.isa}, {library}", "step_s": step,
                      "seconds_by_library": times, "tokens_per_s": rows * args.accum / step,
                      "peak_rss_mib": peak_rss_mib()}))


if __name__ == "__main__":
    main()
