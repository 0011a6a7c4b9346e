// Ops on whole steps, states and copies between spaces.

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

/// Operands of adamw after weight, gradient, m, v.
enum : std::size_t { kMaster = 4, kRate = 5, kCorrection1, kCorrection2, kClip, kApply, kDraw };

Types infer_adamw(const OpArguments& a) {
  const Shape& shape = in(a, 0).shape;
  for (std::size_t i = 0; i <= kMaster; ++i) {
    if (i == kMaster && !has(a, i)) continue;
    check_operands(is_float(in(a, i).dtype) && in(a, i).shape == shape, a);
  }
  for (const std::size_t i : {kRate, kCorrection1, kCorrection2}) {
    check_operands(in(a, i) == TensorType{DType::f32, {}}, a);
  }
  if (has(a, kClip)) check_operands(in(a, kClip) == TensorType{DType::f32, {}}, a);
  if (has(a, kApply)) check_operands(in(a, kApply) == TensorType{DType::i32, {}}, a);
  if (has(a, kDraw)) check_operands(in(a, kDraw) == TensorType{DType::i64, {}}, a);
  for (const char* key : {"beta1", "beta2", "eps", "weight_decay"}) {
    check_operands(a.attributes.has(key), a);
  }
  Types types{in(a, 0), in(a, 2), in(a, 3)};
  if (has(a, kMaster)) types.push_back(in(a, kMaster));
  return types;
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

OpCost cost_adamw(const OpArguments& a, std::span<const TensorType> outputs) {
  return {15 * in(a, 0).shape.elements(), traffic(a, outputs)};
}

OpCost cost_copy(const OpArguments& a, std::span<const TensorType>) {
  return {0, 2 * in(a, 0).bytes()};
}

constexpr std::array<Aliasing, 4> kStates{{{0, 0, true}, {1, 2, true}, {2, 3, true}, {3, 4, true}}};
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
      OpDef{.op = Op::adamw,
            .name = "adamw",
            .min_inputs = 8,
            .max_inputs = 11,
            .min_outputs = 3,
            .max_outputs = 4,
            .infer = infer_adamw,
            .cost = cost_adamw,
            .aliasing = kStates,
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
