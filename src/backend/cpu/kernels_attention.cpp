// Flash attention, the key-value cache and the rope tables.

#include <cstring>

#include "backend/cpu/attention_backward.h"
#include "backend/cpu/attention_forward.h"
#include "backend/cpu/cpu_kernels.h"
#include "backend/cpu/elementwise.h"
#include "backend/cpu/rope.h"

namespace snug::cpu {
namespace {

AttentionShape shape_of(const OperandLayout& q, const OperandLayout& k,
                        const Attributes& attributes, Isa isa) {
  return {.type = q.type.dtype,
          .heads = q.type.shape[1],
          .kv_heads = k.type.shape[1],
          .head_dim = q.type.shape[2],
          .scale = static_cast<float>(attributes.real("scale")),
          .window = attributes.integer_or("window", 0),
          .isa = isa};
}

TokenInput tokens_in(const Operand& operand) { return {operand.data, operand.layout.row_stride}; }
TokenOutput tokens_out(const Operand& operand) { return {operand.data, operand.layout.row_stride}; }

std::int64_t forward_grant(const KernelQuery& query) {
  return attention_forward_scratch(
      shape_of(query.inputs[0], query.inputs[1], query.attributes, query.target.isa),
      query.inputs[0].type.shape[0], query.target.threads);
}

void forward_run(const KernelCall& call) {
  attention_forward({.shape = shape_of(call.inputs[0].layout, call.inputs[1].layout,
                                       call.attributes, isa_of(call)),
                     .tokens = call.inputs[0].layout.type.shape[0],
                     .q = tokens_in(call.inputs[0]),
                     .k = tokens_in(call.inputs[1]),
                     .v = tokens_in(call.inputs[2]),
                     .doc_start = call.inputs[3].as<std::int32_t>(),
                     .o = tokens_out(call.outputs[0]),
                     .lse = call.outputs[1].as<float>()},
                    call.scratch, call.pool);
}

std::int64_t backward_grant(const KernelQuery& query) {
  return attention_backward_scratch(
      shape_of(query.inputs[0], query.inputs[1], query.attributes, query.target.isa),
      query.inputs[0].type.shape[0], query.target.threads);
}

void backward_run(const KernelCall& call) {
  attention_backward({.shape = shape_of(call.inputs[0].layout, call.inputs[1].layout,
                                        call.attributes, isa_of(call)),
                      .tokens = call.inputs[0].layout.type.shape[0],
                      .q = tokens_in(call.inputs[0]),
                      .k = tokens_in(call.inputs[1]),
                      .v = tokens_in(call.inputs[2]),
                      .doc_start = call.inputs[3].as<std::int32_t>(),
                      .o = tokens_in(call.inputs[4]),
                      .lse = call.inputs[5].as<float>(),
                      .grad_o = tokens_in(call.inputs[6]),
                      .grad_q = tokens_out(call.outputs[0]),
                      .grad_k = tokens_out(call.outputs[1]),
                      .grad_v = tokens_out(call.outputs[2])},
                     call.scratch, call.pool);
}

/// Rows of the cache that a call at `position` with this many tokens needs.
std::int64_t checked_position(const Operand& position, std::int64_t tokens,
                              const OperandLayout& cache) {
  const std::int64_t first = *position.as<std::int32_t>();
  check(first >= 0 && first + tokens <= cache.type.shape[0],
        "{} tokens at row {} of a cache of {} rows", tokens, first, cache.type.shape[0]);
  return first;
}

void cached_run(const KernelCall& call) {
  const std::int64_t queries = call.inputs[0].layout.type.shape[0];
  attention_cached({.shape = shape_of(call.inputs[0].layout, call.inputs[1].layout, call.attributes,
                                      isa_of(call)),
                    .queries = queries,
                    .position = checked_position(call.inputs[3], queries, call.inputs[1].layout),
                    .q = tokens_in(call.inputs[0]),
                    .k = tokens_in(call.inputs[1]),
                    .v = tokens_in(call.inputs[2]),
                    .o = tokens_out(call.outputs[0])},
                   call.scratch, call.pool);
}

void cache_write_run(const KernelCall& call) {
  const Operand& x = call.inputs[1];
  const Operand& cache = call.outputs[0];
  const Matrix rows = matrix_of(x.layout);
  const std::int64_t first = checked_position(call.inputs[2], rows.rows, cache.layout);
  const std::int64_t skipped = first * cache.layout.row_stride * size_of(cache.layout.type.dtype);
  copy_rows(x.layout.type.dtype, rows.rows, rows.columns, rows_in(x),
            {cache.data + skipped, cache.layout.row_stride}, call.pool);
}

RopeScaling scaling_of(const std::string& kind) {
  if (kind == "linear") return RopeScaling::linear;
  if (kind == "llama3") return RopeScaling::llama3;
  check(kind == "plain", "rope_table of kind '{}'", kind);
  return RopeScaling::none;
}

void rope_table_run(const KernelCall& call) {
  const Attributes& a = call.attributes;
  rope_table({.theta = a.real("theta"),
              .scaling = scaling_of(a.text("kind")),
              .factor = a.real("factor"),
              .low_freq_factor = a.real("low_freq_factor"),
              .high_freq_factor = a.real("high_freq_factor"),
              .original_max_positions = a.real("original_positions"),
              .positions = a.integer("positions"),
              .head_dim = 2 * a.integer("half")},
             call.outputs[0].as<float>(), call.outputs[1].as<float>(), call.pool);
}

constexpr Kernel kKernels[] = {
    {.name = "cpu_attention",
     .op = Op::attention,
     .refuses = needs_bf16_or_f32,
     .grant = forward_grant,
     .prepare = remember_isa,
     .run = forward_run},
    {.name = "cpu_attention_grad",
     .op = Op::attention_grad,
     .refuses = needs_bf16_or_f32,
     .grant = backward_grant,
     .prepare = remember_isa,
     .run = backward_run},
    {.name = "cpu_attention_cached",
     .op = Op::attention_cached,
     .refuses = needs_one_type,
     .grant = forward_grant,
     .prepare = remember_isa,
     .run = cached_run},
    {.name = "cpu_cache_write",
     .op = Op::cache_write,
     .refuses = needs_one_type,
     .run = cache_write_run},
    {.name = "cpu_rope_table", .op = Op::rope_table, .run = rope_table_run},
};

}  // namespace

std::span<const Kernel> attentions() { return kKernels; }

}  // namespace snug::cpu
