// Ops on whole steps and copies between spaces.

#include <algorithm>
#include <array>

#include "ir/op_rows.h"

namespace snug::rows {
namespace {

Types infer_global_norm(const OpArguments& a) {
  for (std::size_t i = 0; i < a.inputs.size(); ++i) check_operands(is_float(in(a, i).dtype), a);
  check_operands(a.attributes.has("max_norm"), a);
  return {{DType::f32, {}}, {DType::f32, {}}, {DType::i32, {}}};
}

Types infer_unscale_norm(const OpArguments& a) {
  const TensorType number{DType::f32, {}};
  check_operands(in(a, 0) == number && in(a, 1) == number && a.attributes.has("max_norm"), a);
  return {number, number};
}

Types infer_apply_gate(const OpArguments& a) {
  const TensorType flag{DType::i32, {}};
  check_operands(in(a, 0) == flag && in(a, 1) == flag, a);
  return {flag};
}

Types infer_copy_start(const OpArguments& a) {
  check_operands(a.attributes.has("space"), a);
  return {in(a, 0), {DType::u8, {}}};
}

Types infer_copy_wait(const OpArguments& a) {
  check_operands(in(a, 1) == TensorType{DType::u8, {}}, a);
  return {in(a, 0)};
}

/// A square and a sum for each element.
OpCost cost_global_norm(const OpArguments& a, std::span<const TensorType> outputs) {
  std::int64_t elements = 0;
  for (const TensorType* type : a.inputs) elements += type->shape.elements();
  return {2 * elements, traffic(a, outputs)};
}

OpCost cost_copy(const OpArguments& a, std::span<const TensorType>) {
  return {0, 2 * in(a, 0).bytes()};
}

constexpr std::array<Aliasing, 1> kVersion{{{0, 0, true}}};

}  // namespace

std::span<const OpDef> steps() {
  static const std::array table{
      OpDef{.op = Op::global_norm,
            .name = "global_norm",
            .min_inputs = 1,
            .max_inputs = -1,
            .min_outputs = 3,
            .max_outputs = 3,
            .infer = infer_global_norm,
            .cost = cost_global_norm,
            .precision = Precision::keep},
      OpDef{.op = Op::unscale_norm,
            .name = "unscale_norm",
            .min_inputs = 2,
            .max_inputs = 2,
            .min_outputs = 2,
            .max_outputs = 2,
            .infer = infer_unscale_norm,
            .cost = cost_elementwise,
            .precision = Precision::keep},
      OpDef{.op = Op::apply_gate,
            .name = "apply_gate",
            .min_inputs = 2,
            .max_inputs = 2,
            .infer = infer_apply_gate,
            .cost = cost_elementwise,
            .precision = Precision::keep},
      OpDef{.op = Op::copy_start,
            .name = "copy_start",
            .min_inputs = 1,
            .max_inputs = 1,
            .min_outputs = 2,
            .max_outputs = 2,
            .infer = infer_copy_start,
            .cost = cost_copy},
      OpDef{.op = Op::copy_wait,
            .name = "copy_wait",
            .min_inputs = 2,
            .max_inputs = 2,
            .infer = infer_copy_wait,
            .cost = cost_nothing,
            .aliasing = kVersion},
  };
  return table;
}

}  // namespace snug::rows
