// Attention for any head width, a row and head a thread.

#include "backend/cuda/bodies_attention.h"
#include "backend/cuda/cuda_kernels.h"
#include "backend/cuda/operands.h"

namespace snug::cuda {
namespace {

Heads heads(const KernelCall& call) {
  const Shape& q = shape_in(call, 0);
  return {.q = in(call, 0),
          .k = in(call, 1),
          .v = in(call, 2),
          .doc_start = nullptr,
          .tokens = q[0],
          .heads = q[1],
          .groups = shape_in(call, 1)[1],
          .width = q[2],
          .window = call.attributes.integer_or("window", 0),
          .scale = static_cast<float>(call.attributes.real("scale"))};
}

Heads document_heads(const KernelCall& call) {
  Heads result = heads(call);
  result.doc_start = pointer<const std::int32_t>(call, 3);
  return result;
}

void attention(const KernelCall& call) {
  const Heads a = document_heads(call);
  each(call.queue, a.tokens * a.heads, Attention{a, nullptr, out(call, 0), out(call, 1)});
}

void attention_cached(const KernelCall& call) {
  const Heads a = heads(call);
  each(call.queue, a.tokens * a.heads,
       Attention{a, pointer<const std::int32_t>(call, 3), out(call, 0), {}});
}

void attention_grad(const KernelCall& call) {
  const AttentionPairs pairs{document_heads(call), in(call, 4), in(call, 5), in(call, 6)};
  each(call.queue, pairs.a.tokens * pairs.a.heads, AttentionQueryGradient{pairs, out(call, 0)});
  each(call.queue, pairs.a.tokens * pairs.a.groups,
       AttentionKeyGradient{pairs, out(call, 1), out(call, 2)});
}

constexpr Kernel kKernels[] = {
    {.name = "cuda_plain_attention",
     .op = Op::attention,
     .refuses = refuses_double,
     .run = attention},
    {.name = "cuda_plain_attention_grad",
     .op = Op::attention_grad,
     .refuses = refuses_double,
     .run = attention_grad},
    {.name = "cuda_plain_attention_cached",
     .op = Op::attention_cached,
     .refuses = refuses_double,
     .run = attention_cached},
};

}  // namespace

std::span<const Kernel> plain_attention() { return kKernels; }

}  // namespace snug::cuda
