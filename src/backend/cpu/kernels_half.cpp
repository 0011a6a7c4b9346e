// fp16 by way of fp32: operands are widened into scratch, the fp32 kernel runs, results are rounded
// once. Every conversion is exact or a single rounding, so results are those of a kernel that reads
// and writes fp16 itself.

#include <immintrin.h>

#include <algorithm>
#include <array>

#include "backend/cpu/cpu_kernels.h"
#include "backend/cpu/scratch.h"
#include "core/error.h"

#define SNUG_HALF __attribute__((target("avx,f16c")))

namespace snug::cpu {
namespace {

constexpr std::size_t kMostOperands = 24;
constexpr std::int64_t kBlock = 1 << 14;  ///< elements a worker converts at a time

SNUG_HALF void widen(const Float16* from, float* to, std::int64_t count) {
  std::int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i));
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(half));
  }
  for (; i < count; ++i) to[i] = static_cast<float>(from[i]);
}

SNUG_HALF void narrow(const float* from, Float16* to, std::int64_t count) {
  std::int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m128i half = _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), half);
  }
  for (; i < count; ++i) to[i] = Float16(from[i]);
}

bool is_half(const OperandLayout& layout) {
  return layout.present && layout.type.dtype == DType::f16;
}

/// As the fp32 kernel sees it: dense.
OperandLayout widened(const OperandLayout& layout) {
  OperandLayout wide = layout;
  if (!is_half(layout)) return wide;
  wide.type.dtype = DType::f32;
  wide.row_stride = matrix_of(layout).columns;
  return wide;
}

/// A query whose fp16 operands are fp32.
struct WideQuery {
  explicit WideQuery(const KernelQuery& query) {
    check(query.inputs.size() + query.outputs.size() <= kMostOperands, "{} operands",
          query.inputs.size() + query.outputs.size());
    std::size_t next = 0;
    for (const auto& operands : {query.inputs, query.outputs}) {
      for (const OperandLayout& layout : operands) layouts[next++] = widened(layout);
    }
    inputs = std::span(layouts).first(query.inputs.size());
    outputs = std::span(layouts).subspan(query.inputs.size(), query.outputs.size());
  }
  KernelQuery of(const KernelQuery& query) const {
    return {query.op, query.attributes, inputs, outputs, query.target};
  }
  std::array<OperandLayout, kMostOperands> layouts;
  std::span<const OperandLayout> inputs;
  std::span<const OperandLayout> outputs;
};

/// The fp32 kernel for it, the same for any number of rows; nullptr when there is none.
const Kernel* find_inner(const KernelQuery& wide) {
  for (const auto& family : {products(), packed_products(), row_ops(), attentions(), adapters(),
                             losses(), steps(), updates()}) {
    for (const Kernel& kernel : family) {
      if (kernel.op == wide.op && kernel.row_invariant &&
          (kernel.refuses == nullptr || !kernel.refuses(wide))) {
        return &kernel;
      }
    }
  }
  return nullptr;
}

struct HalfPrepared : Prepared {
  const Kernel* inner = nullptr;
  std::unique_ptr<Prepared> prepared;
};

std::optional<std::string> half_refuses(const KernelQuery& query) {
  const auto any = [](std::span<const OperandLayout> operands) {
    return std::any_of(operands.begin(), operands.end(), is_half);
  };
  if (!any(query.inputs) && !any(query.outputs)) return "no f16 operand";
  const WideQuery wide(query);
  if (find_inner(wide.of(query)) == nullptr) return "no f32 kernel takes these operands";
  return std::nullopt;
}

std::int64_t half_grant(const KernelQuery& query) {
  const WideQuery wide(query);
  const KernelQuery inner_query = wide.of(query);
  const Kernel* inner = find_inner(inner_query);
  std::int64_t bytes = inner->grant == nullptr ? 0 : inner->grant(inner_query);
  for (const auto& operands : {query.inputs, query.outputs}) {
    for (const OperandLayout& layout : operands) {
      if (is_half(layout)) bytes += scratch_bytes(layout.type.shape.elements(), sizeof(float));
    }
  }
  return bytes;
}

std::unique_ptr<Prepared> half_prepare(const KernelQuery& query) {
  const WideQuery wide(query);
  const KernelQuery inner_query = wide.of(query);
  auto result = std::make_unique<HalfPrepared>();
  result->inner = find_inner(inner_query);
  if (result->inner->prepare != nullptr) result->prepared = result->inner->prepare(inner_query);
  return result;
}

/// Calls convert(row, first column, count) over all of a matrix, in blocks.
template <class Convert>
void each_block(const Matrix& m, ThreadPool& pool, Convert&& convert) {
  const std::int64_t blocks = (m.columns + kBlock - 1) / kBlock;
  pool.run(m.rows * blocks, [&](std::int64_t item, int) {
    const std::int64_t first = item % blocks * kBlock;
    convert(item / blocks, first, std::min(kBlock, m.columns - first));
  });
}

void half_run(const KernelCall& call) {
  const auto& prepared = *static_cast<const HalfPrepared*>(call.prepared);
  std::array<Operand, kMostOperands> operands;
  Scratch scratch(call.scratch);
  std::int64_t used = 0;
  const auto room = [&](const Operand& operand) {
    const std::int64_t elements = operand.layout.type.shape.elements();
    used += scratch_bytes(elements, sizeof(float));
    return reinterpret_cast<std::byte*>(scratch.take<float>(elements));
  };
  const std::size_t inputs = call.inputs.size();
  for (std::size_t i = 0; i < inputs; ++i) {
    const Operand& given = call.inputs[i];
    operands[i] = {given.data, widened(given.layout)};
    if (given.data == nullptr || !is_half(given.layout)) continue;
    operands[i].data = room(given);
    const Matrix m = matrix_of(given.layout);
    each_block(m, call.pool, [&](std::int64_t row, std::int64_t first, std::int64_t count) {
      widen(given.as<Float16>() + row * m.stride + first,
            operands[i].as<float>() + row * m.columns + first, count);
    });
  }
  for (std::size_t o = 0; o < call.outputs.size(); ++o) {
    const Operand& given = call.outputs[o];
    Operand& wide = operands[inputs + o];
    wide = {given.data, widened(given.layout)};
    if (given.data == nullptr || !is_half(given.layout)) continue;
    // A result that lies on an operand does so for the inner kernel too.
    const auto same = std::find_if(call.inputs.begin(), call.inputs.end(), [&](const Operand& in) {
      return in.data == given.data && in.layout == given.layout;
    });
    wide.data = same == call.inputs.end()
                    ? room(given)
                    : operands[static_cast<std::size_t>(same - call.inputs.begin())].data;
  }
  prepared.inner->run({call.attributes, std::span(operands).first(inputs),
                       std::span(operands).subspan(inputs, call.outputs.size()),
                       call.scratch.subspan(static_cast<std::size_t>(used)),
                       prepared.prepared.get(), call.pool});
  for (std::size_t o = 0; o < call.outputs.size(); ++o) {
    const Operand& given = call.outputs[o];
    if (given.data == nullptr || !is_half(given.layout)) continue;
    const Matrix m = matrix_of(given.layout);
    each_block(m, call.pool, [&](std::int64_t row, std::int64_t first, std::int64_t count) {
      narrow(operands[inputs + o].as<float>() + row * m.columns + first,
             given.as<Float16>() + row * m.stride + first, count);
    });
  }
}

constexpr Kernel half(std::string_view name, Op op) {
  return {.name = name,
          .op = op,
          .refuses = half_refuses,
          .grant = half_grant,
          .prepare = half_prepare,
          .run = half_run};
}

constexpr Kernel kKernels[] = {
    half("cpu_half_linear", Op::linear),
    half("cpu_half_linear_dx", Op::linear_dx),
    half("cpu_half_linear_dw", Op::linear_dw),
    half("cpu_half_column_sum", Op::column_sum),
    half("cpu_half_rms_norm", Op::rms_norm),
    half("cpu_half_rms_norm_dx", Op::rms_norm_dx),
    half("cpu_half_rms_norm_dw", Op::rms_norm_dw),
    half("cpu_half_rope", Op::rope),
    half("cpu_half_attention", Op::attention),
    half("cpu_half_attention_grad", Op::attention_grad),
    half("cpu_half_attention_cached", Op::attention_cached),
    half("cpu_half_silu_mul", Op::silu_mul),
    half("cpu_half_silu_mul_grad", Op::silu_mul_grad),
    half("cpu_half_add", Op::add),
    half("cpu_half_scale", Op::scale),
    half("cpu_half_cast", Op::cast),
    half("cpu_half_embedding", Op::embedding),
    half("cpu_half_embedding_dw", Op::embedding_dw),
    half("cpu_half_head_loss", Op::head_loss),
    half("cpu_half_head_loss_grad", Op::head_loss_grad),
    half("cpu_half_adapted_head_loss", Op::adapted_head_loss),
    half("cpu_half_adapted_head_loss_grad", Op::adapted_head_loss_grad),
    half("cpu_half_dequantize", Op::dequantize),
    half("cpu_half_packed_linear", Op::packed_linear),
    half("cpu_half_packed_linear_dx", Op::packed_linear_dx),
    half("cpu_half_scale_columns", Op::scale_columns),
    half("cpu_half_scale_columns_dw", Op::scale_columns_dw),
    half("cpu_half_dora_norm", Op::dora_norm),
    half("cpu_half_dropout", Op::dropout),
    half("cpu_half_adamw", Op::adamw),
    half("cpu_half_adamw_8bit", Op::adamw_8bit),
    half("cpu_half_adafactor", Op::adafactor),
    half("cpu_half_adafactor_vector", Op::adafactor_vector),
    half("cpu_half_lion", Op::lion),
    half("cpu_half_lion_8bit", Op::lion_8bit),
    half("cpu_half_sgd", Op::sgd),
    half("cpu_half_sgd_momentum", Op::sgd_momentum),
};

}  // namespace

std::span<const Kernel> halves() { return kKernels; }

}  // namespace snug::cpu
