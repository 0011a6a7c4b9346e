#pragma once
// Private to the CPU back end: its kernels by family, and what their wrappers share.

#include <optional>
#include <span>
#include <string>

#include "backend/cpu/gradient_output.h"
#include "backend/cpu/rows.h"
#include "plan/kernel.h"

namespace snug::cpu {

std::span<const Kernel> products();
std::span<const Kernel> packed_products();
std::span<const Kernel> row_ops();
std::span<const Kernel> attentions();
std::span<const Kernel> adapters();
std::span<const Kernel> losses();
std::span<const Kernel> steps();
std::span<const Kernel> updates();
std::span<const Kernel> halves();  ///< of the families above, for fp16 operands

/// An operand as a matrix: the outermost dimension by all others; a vector or scalar is one row.
struct Matrix {
  std::int64_t rows = 1;
  std::int64_t columns = 1;
  std::int64_t stride = 1;
};
Matrix matrix_of(const OperandLayout& layout);
RowsIn rows_in(const Operand& operand);
RowsOut rows_out(const Operand& operand);

/// Whether operand i is given.
inline bool given(std::span<const Operand> operands, std::size_t i) {
  return i < operands.size() && operands[i].data != nullptr;
}
inline bool given(std::span<const OperandLayout> operands, std::size_t i) {
  return i < operands.size() && operands[i].present;
}

/// A refusal unless every float operand is bf16 or f32.
std::optional<std::string> needs_bf16_or_f32(const KernelQuery& query);
/// The same, and rows without gaps.
std::optional<std::string> needs_dense(const KernelQuery& query);
/// The same as needs_bf16_or_f32, and all of one type.
std::optional<std::string> needs_one_type(const KernelQuery& query);

/// Where a gradient kernel writes: output `out`, on top of `acc` where that is given, rounded by
/// the draw operand where that is given. `stream` is storage for the rounding.
GradientOutput gradient_output(const KernelCall& call, std::size_t out, std::size_t acc,
                               std::size_t draw, RandomStream& stream);

/// What wrappers need of the target while running.
struct TargetIsa final : Prepared {
  explicit TargetIsa(Isa value) : isa(value) {}
  Isa isa;
};
std::unique_ptr<Prepared> remember_isa(const KernelQuery& query);
Isa isa_of(const KernelCall& call);

}  // namespace snug::cpu
