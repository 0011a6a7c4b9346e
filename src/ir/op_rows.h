#pragma once
// Private to the files of op rows: their lists, and what shape rules and costs share.

#include <span>
#include <vector>

#include "ir/op.h"

namespace snug::rows {

std::span<const OpDef> arithmetic();
std::span<const OpDef> movement();
std::span<const OpDef> products();
std::span<const OpDef> linears();
std::span<const OpDef> packed_products();
std::span<const OpDef> norms();
std::span<const OpDef> attentions();
std::span<const OpDef> adapters();
std::span<const OpDef> losses();
std::span<const OpDef> steps();
std::span<const OpDef> updates();

using Types = std::vector<TensorType>;

/// Operand i is listed and present.
inline bool has(const OpArguments& a, std::size_t i) {
  return i < a.inputs.size() && a.inputs[i] != nullptr;
}
/// Operand i; InternalError when it is absent.
const TensorType& in(const OpArguments& a, std::size_t i);
/// The attribute `dtype`, or `fallback`.
DType dtype_or(const OpArguments& a, DType fallback);
/// The type sums are kept in: f32, or f64 for f64 operands.
constexpr DType sum_dtype(DType type) { return type == DType::f64 ? DType::f64 : DType::f32; }
/// Operand i is an i32 vector of `rows` elements.
bool is_row_indices(const OpArguments& a, std::size_t i, std::int64_t rows);
/// Operand i is one element of a float or integer type.
bool is_scalar(const OpArguments& a, std::size_t i);
/// Checks the `acc` operand i and, after it, `draw`: of the output's type, and a scalar i64.
void check_accumulator(const OpArguments& a, std::size_t i, const TensorType& output);

/// Bytes of all operands and results.
std::int64_t traffic(const OpArguments& a, std::span<const TensorType> outputs);
/// One operation an element of the first output.
OpCost cost_elementwise(const OpArguments& a, std::span<const TensorType> outputs);
/// Bytes moved, no arithmetic.
OpCost cost_movement(const OpArguments& a, std::span<const TensorType> outputs);
/// Nothing runs.
OpCost cost_nothing(const OpArguments& a, std::span<const TensorType> outputs);

// For gradient rules and definitions.

/// Operand i of a node, kNoValue when it is not listed.
inline ValueId operand(const Node& node, std::size_t i) {
  return i < node.inputs.size() ? node.inputs[i] : kNoValue;
}
/// The name of what a node makes: definitions and gradients derive theirs from it.
const std::string& node_name(const Builder& builder, const Node& node);

/// The name of what a gradient rule makes; autodiff renames gradients after their values.
std::string backward_name(const GradientContext& context);

/// Emits `op` (operands..., acc?, draw?), which makes the gradient of parameter operand `i` and
/// adds it to the partial sum when there is one; `extra` are the op's own attributes. Returns all
/// outputs of which the last is the gradient.
std::vector<ValueId> accumulate_gradient(GradientContext& context, int i, Op op,
                                         std::vector<ValueId> operands, const Attributes& extra);

}  // namespace snug::rows
