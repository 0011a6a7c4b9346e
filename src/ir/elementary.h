#pragma once
// Emits elementary ops: what definitions of fused ops and gradients of elementary ops are made of.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ir/builder.h"

namespace snug {

/// Values it emits are named `prefix/op`, made unique. Steps that would change nothing (a cast to
/// the same type, a broadcast to the same shape) emit nothing. The builder must outlive it.
class Elementary {
 public:
  Elementary(Builder& builder, std::string_view prefix) : builder_(builder), prefix_(prefix) {}

  Shape shape(ValueId a) const { return builder_.graph().value(a).type.shape; }
  DType dtype(ValueId a) const { return builder_.graph().value(a).type.dtype; }

  ValueId add(ValueId a, ValueId b) { return emit(Op::add, {a, b}); }
  ValueId sub(ValueId a, ValueId b) { return emit(Op::sub, {a, b}); }
  ValueId mul(ValueId a, ValueId b) { return emit(Op::mul, {a, b}); }
  ValueId div(ValueId a, ValueId b) { return emit(Op::div, {a, b}); }
  ValueId scale(ValueId a, double factor) { return emit(Op::scale, {a}, {{"factor", factor}}); }
  ValueId shift(ValueId a, double offset) { return emit(Op::shift, {a}, {{"offset", offset}}); }
  ValueId exp(ValueId a) { return emit(Op::exp, {a}); }
  ValueId log(ValueId a) { return emit(Op::log, {a}); }
  ValueId rsqrt(ValueId a) { return emit(Op::rsqrt, {a}); }
  ValueId sigmoid(ValueId a) { return emit(Op::sigmoid, {a}); }
  ValueId stop_gradient(ValueId a) { return emit(Op::stop_gradient, {a}); }
  ValueId reduce_sum(ValueId a, int axis);
  ValueId reduce_max(ValueId a, int axis);
  ValueId broadcast(ValueId a, const Shape& to);
  ValueId reshape(ValueId a, const Shape& to);
  ValueId permute(ValueId a, std::string order);
  ValueId slice(ValueId a, int axis, std::int64_t begin, std::int64_t end);
  ValueId concat(ValueId a, ValueId b, int axis);
  ValueId matmul(ValueId a, ValueId b, bool transpose_a = false, bool transpose_b = false);
  ValueId one_hot(ValueId labels, std::int64_t depth, DType type);
  ValueId document_mask(ValueId doc_start, std::int64_t window, DType type);
  ValueId fill(double value, const TensorType& type);
  ValueId cast(ValueId a, DType to);
  /// In the type sums are kept in: f32, or f64 for f64.
  ValueId wide(ValueId a);
  /// Sums all leading dimensions away: [.., D] -> [D].
  ValueId column_sum(ValueId a);

 private:
  ValueId emit(Op op, std::vector<ValueId> inputs, Attributes attributes = {});

  Builder& builder_;
  std::string prefix_;
};

}  // namespace snug
