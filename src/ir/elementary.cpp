#include "ir/elementary.h"

namespace snug {

ValueId Elementary::emit(Op op, std::vector<ValueId> inputs, Attributes attributes) {
  return builder_.one(op, std::move(inputs), std::move(attributes),
                      fmt::format("{}/{}", prefix_, op_def(op).name));
}

ValueId Elementary::reduce_sum(ValueId a, int axis) {
  return emit(Op::reduce_sum, {a}, {{"axis", std::int64_t{axis}}});
}

ValueId Elementary::reduce_max(ValueId a, int axis) {
  return emit(Op::reduce_max, {a}, {{"axis", std::int64_t{axis}}});
}

ValueId Elementary::broadcast(ValueId a, const Shape& to) {
  if (shape(a) == to) return a;
  return emit(Op::broadcast, {a}, {{"shape", shape_text(to)}});
}

ValueId Elementary::reshape(ValueId a, const Shape& to) {
  if (shape(a) == to) return a;
  return emit(Op::reshape, {a}, {{"shape", shape_text(to)}});
}

ValueId Elementary::permute(ValueId a, std::string order) {
  return emit(Op::permute, {a}, {{"order", std::move(order)}});
}

ValueId Elementary::slice(ValueId a, int axis, std::int64_t begin, std::int64_t end) {
  return emit(Op::slice, {a}, {{"axis", std::int64_t{axis}}, {"begin", begin}, {"end", end}});
}

ValueId Elementary::concat(ValueId a, ValueId b, int axis) {
  return emit(Op::concat, {a, b}, {{"axis", std::int64_t{axis}}});
}

ValueId Elementary::matmul(ValueId a, ValueId b, bool transpose_a, bool transpose_b) {
  return emit(
      Op::matmul, {a, b},
      {{"transpose_a", std::int64_t{transpose_a}}, {"transpose_b", std::int64_t{transpose_b}}});
}

ValueId Elementary::one_hot(ValueId labels, std::int64_t depth, DType type) {
  return emit(Op::one_hot, {labels}, {{"depth", depth}, {"dtype", std::string(name_of(type))}});
}

ValueId Elementary::document_mask(ValueId doc_start, std::int64_t window, DType type) {
  return emit(Op::document_mask, {doc_start},
              {{"window", window}, {"dtype", std::string(name_of(type))}});
}

ValueId Elementary::fill(double value, const TensorType& type) {
  return emit(Op::fill, {},
              {{"value", value},
               {"dtype", std::string(name_of(type.dtype))},
               {"shape", shape_text(type.shape)}});
}

ValueId Elementary::cast(ValueId a, DType to) {
  if (dtype(a) == to) return a;
  return emit(Op::cast, {a}, {{"dtype", std::string(name_of(to))}});
}

ValueId Elementary::wide(ValueId a) {
  return cast(a, dtype(a) == DType::f64 ? DType::f64 : DType::f32);
}

ValueId Elementary::column_sum(ValueId a) {
  const Shape from = shape(a);
  const Shape matrix{from.rows(), from[-1]};
  return reshape(reduce_sum(reshape(a, matrix), 0), {matrix[1]});
}

}  // namespace snug
