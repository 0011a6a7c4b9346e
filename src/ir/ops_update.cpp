// Updates of a parameter: one op a rule, operands as UpdateOperand names them.

#include <array>
#include <initializer_list>

#include "ir/op_rows.h"

namespace snug::rows {
namespace {

const TensorType kFloatScalar{DType::f32, {}};

/// Checks what all updates share, `scalars` f32 scalars behind the states and the attributes; the
/// states' own types are the caller's to check.
Types infer_update(const OpArguments& a, std::size_t states, std::size_t scalars,
                   std::initializer_list<const char*> attributes) {
  const TensorType& weight = in(a, kUpdateWeight);
  check_operands(is_float(weight.dtype), a);
  check_operands(
      is_float(in(a, kUpdateGradient).dtype) && in(a, kUpdateGradient).shape == weight.shape, a);
  if (has(a, kUpdateMaster)) {
    check_operands(
        is_float(in(a, kUpdateMaster).dtype) && in(a, kUpdateMaster).shape == weight.shape, a);
  }
  check_operands(in(a, kUpdateRate) == kFloatScalar, a);
  if (has(a, kUpdateClip)) check_operands(in(a, kUpdateClip) == kFloatScalar, a);
  if (has(a, kUpdateApply)) check_operands(in(a, kUpdateApply) == TensorType{DType::i32, {}}, a);
  if (has(a, kUpdateDraw)) check_operands(in(a, kUpdateDraw) == TensorType{DType::i64, {}}, a);
  for (std::size_t i = 0; i < scalars; ++i) {
    check_operands(in(a, kUpdateStates + states + i) == kFloatScalar, a);
  }
  check_operands(a.attributes.has("weight_decay"), a);
  for (const char* key : attributes) check_operands(a.attributes.has(key), a);
  Types types{weight};
  for (std::size_t i = 0; i < states; ++i) types.push_back(in(a, kUpdateStates + i));
  if (has(a, kUpdateMaster)) types.push_back(in(a, kUpdateMaster));
  return types;
}

/// State i has the weight's shape and a float type.
void check_plain_state(const OpArguments& a, std::size_t i) {
  const TensorType& state = in(a, kUpdateStates + i);
  check_operands(is_float(state.dtype) && state.shape == in(a, kUpdateWeight).shape, a);
}

/// States i and i + 1 are codes and absmax.
void check_coded_state(const OpArguments& a, std::size_t i) {
  const Shape& shape = in(a, kUpdateWeight).shape;
  const std::int64_t blocks = (shape.elements() + kCodeBlock - 1) / kCodeBlock;
  check_operands(in(a, kUpdateStates + i) == TensorType{DType::u8, shape}, a);
  check_operands(in(a, kUpdateStates + i + 1) == TensorType{DType::f32, {blocks}}, a);
}

Types infer_adamw(const OpArguments& a) {
  check_plain_state(a, 0);
  check_plain_state(a, 1);
  return infer_update(a, 2, 2, {"beta1", "beta2", "eps"});
}

Types infer_adamw_8bit(const OpArguments& a) {
  check_coded_state(a, 0);
  check_coded_state(a, 2);
  return infer_update(a, 4, 2, {"beta1", "beta2", "eps", "root"});
}

Types infer_adafactor(const OpArguments& a) {
  const Shape& shape = in(a, kUpdateWeight).shape;
  check_operands(shape.rank() == 2, a);
  const DType sums = sum_dtype(in(a, kUpdateWeight).dtype);
  check_operands(in(a, kUpdateStates) == TensorType{sums, {shape[0]}}, a);
  check_operands(in(a, kUpdateStates + 1) == TensorType{sums, {shape[1]}}, a);
  return infer_update(a, 2, 2, {"form", "eps1", "eps2", "clip_threshold", "scale_parameter"});
}

Types infer_adafactor_vector(const OpArguments& a) {
  check_plain_state(a, 0);
  return infer_update(a, 1, 2, {"form", "eps1", "eps2", "clip_threshold", "scale_parameter"});
}

Types infer_lion(const OpArguments& a) {
  check_plain_state(a, 0);
  return infer_update(a, 1, 0, {"beta1", "beta2"});
}

Types infer_lion_8bit(const OpArguments& a) {
  check_coded_state(a, 0);
  return infer_update(a, 2, 0, {"beta1", "beta2"});
}

Types infer_sgd(const OpArguments& a) { return infer_update(a, 0, 0, {}); }

Types infer_sgd_momentum(const OpArguments& a) {
  check_plain_state(a, 0);
  return infer_update(a, 1, 0, {"momentum", "nesterov"});
}

/// About so many operations an element.
template <int kOperations>
OpCost cost_update(const OpArguments& a, std::span<const TensorType> outputs) {
  return {kOperations * in(a, kUpdateWeight).shape.elements(), traffic(a, outputs)};
}

/// The gradient is read three times: for the means, for the update's size, for the update.
OpCost cost_adafactor(const OpArguments& a, std::span<const TensorType> outputs) {
  return {20 * in(a, kUpdateWeight).shape.elements(),
          traffic(a, outputs) + 2 * in(a, kUpdateGradient).bytes()};
}

/// Weight, states in order, master.
template <int kStates>
constexpr std::array<Aliasing, kStates + 2> versions() {
  std::array<Aliasing, kStates + 2> result{};
  result[0] = {0, kUpdateWeight, true};
  for (int i = 0; i < kStates; ++i) {
    result[static_cast<std::size_t>(i) + 1] = {i + 1, static_cast<int>(kUpdateStates) + i, true};
  }
  result[kStates + 1] = {kStates + 1, kUpdateMaster, true};
  return result;
}
template <int kStates>
constexpr std::array<Aliasing, kStates + 2> kVersions = versions<kStates>();

template <int kStates, int kScalars>
OpDef update(Op op, std::string_view name, Types (*infer)(const OpArguments&),
             OpCost (*cost)(const OpArguments&, std::span<const TensorType>)) {
  constexpr int kInputs = static_cast<int>(kUpdateStates) + kStates + kScalars;
  return {.op = op,
          .name = name,
          .min_inputs = kInputs,
          .max_inputs = kInputs,
          .min_outputs = 1 + kStates,
          .max_outputs = 2 + kStates,
          .infer = infer,
          .cost = cost,
          .aliasing = kVersions<kStates>,
          .precision = Precision::keep,
          .update_states = kStates};
}

}  // namespace

std::span<const OpDef> updates() {
  static const std::array table{
      update<2, 2>(Op::adamw, "adamw", infer_adamw, cost_update<15>),
      update<4, 2>(Op::adamw_8bit, "adamw_8bit", infer_adamw_8bit, cost_update<30>),
      update<2, 2>(Op::adafactor, "adafactor", infer_adafactor, cost_adafactor),
      update<1, 2>(Op::adafactor_vector, "adafactor_vector", infer_adafactor_vector,
                   cost_adafactor),
      update<1, 0>(Op::lion, "lion", infer_lion, cost_update<9>),
      update<2, 0>(Op::lion_8bit, "lion_8bit", infer_lion_8bit, cost_update<16>),
      update<0, 0>(Op::sgd, "sgd", infer_sgd, cost_update<4>),
      update<1, 0>(Op::sgd_momentum, "sgd_momentum", infer_sgd_momentum, cost_update<6>),
  };
  return table;
}

}  // namespace snug::rows
