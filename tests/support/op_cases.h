#pragma once
// Small nodes of every op that has a gradient rule or a definition, with inputs to run them on.

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "ir/builder.h"

namespace snug::test {

/// What an operand of a case holds.
enum class Fill { normal, positive, indices, codes, draw, absent };

struct CaseInput {
  Shape shape;
  Fill fill = Fill::normal;
  bool differentiate = true;          ///< the rule gives a gradient for it
  std::vector<std::int32_t> indices;  ///< of Fill::indices
  bool wide = false;                  ///< in the type of sums, whatever the case's type
  DType held = DType::f64;            ///< of Fill::codes and of scales; f64: the case's type
};

/// Float operands and `dtype` attributes are f64 unless asked otherwise.
struct OpCase {
  Op op;
  std::vector<CaseInput> inputs;
  Attributes attributes = {};
  int outputs_in_loss = 1;  ///< outputs from the first on that a gradient flows into
  int output_count = -1;
};

inline CaseInput x(Shape shape) { return {.shape = shape, .indices = {}}; }
inline CaseInput positive(Shape shape) {
  return {.shape = shape, .fill = Fill::positive, .indices = {}};
}
/// An operand that gets no gradient: a table or an accumulator of the backward pass.
inline CaseInput fixed(Shape shape) {
  return {.shape = shape, .differentiate = false, .indices = {}};
}
inline CaseInput wide(Shape shape) {
  return {.shape = shape, .differentiate = false, .indices = {}, .wide = true};
}
inline CaseInput indices(std::vector<std::int32_t> values) {
  return {.shape = {static_cast<std::int64_t>(values.size())},
          .fill = Fill::indices,
          .differentiate = false,
          .indices = std::move(values)};
}
/// Codes of a packed matrix: random bytes.
inline CaseInput codes(Shape shape, DType type = DType::u8) {
  return {.shape = shape, .fill = Fill::codes, .differentiate = false, .indices = {}, .held = type};
}
/// fp32 scales of a packed matrix.
inline CaseInput scales(Shape shape) {
  return {.shape = shape,
          .fill = Fill::positive,
          .differentiate = false,
          .indices = {},
          .held = DType::f32};
}
/// A draw number: an i64 scalar.
inline CaseInput draw(std::int32_t value) {
  return {.shape = {}, .fill = Fill::draw, .differentiate = false, .indices = {value}};
}
inline CaseInput absent() {
  return {.shape = {}, .fill = Fill::absent, .differentiate = false, .indices = {}};
}

inline std::vector<OpCase> elementary_cases() {
  const auto number = [](std::int64_t n) { return AttributeValue(n); };
  return {
      {Op::add, {x({3, 4}), x({3, 4})}},
      {Op::sub, {x({3, 4}), x({3, 4})}},
      {Op::mul, {x({3, 4}), x({3, 4})}},
      {Op::div, {x({3, 4}), positive({3, 4})}},
      {Op::scale, {x({5})}, {{"factor", -1.5}}},
      {Op::shift, {x({5})}, {{"offset", 0.25}}},
      {Op::exp, {x({5})}},
      {Op::log, {positive({5})}},
      {Op::rsqrt, {positive({5})}},
      {Op::sigmoid, {x({5})}},
      {Op::broadcast, {x({3, 1})}, {{"shape", "2,3,4"}}},
      {Op::broadcast, {x({})}, {{"shape", "2,3"}}},
      {Op::reduce_sum, {x({2, 3, 4})}, {{"axis", number(1)}}},
      {Op::reduce_sum, {x({2, 3})}, {{"axis", number(-1)}}},
      {Op::reshape, {x({2, 6})}, {{"shape", "4,3"}}},
      {Op::permute, {x({2, 3, 4})}, {{"order", "2,0,1"}}},
      {Op::slice, {x({3, 5})}, {{"axis", number(1)}, {"begin", number(1)}, {"end", number(4)}}},
      {Op::slice, {x({3, 5})}, {{"axis", number(0)}, {"begin", number(0)}, {"end", number(3)}}},
      {Op::concat, {x({2, 3}), x({2, 2})}, {{"axis", number(1)}}},
      {Op::matmul, {x({3, 4}), x({4, 2})}},
      {Op::matmul, {x({4, 3}), x({4, 2})}, {{"transpose_a", number(1)}}},
      {Op::matmul, {x({2, 3, 4}), x({2, 5, 4})}, {{"transpose_b", number(1)}}},
      {Op::matmul,
       {x({4, 3}), x({2, 4})},
       {{"transpose_a", number(1)}, {"transpose_b", number(1)}}},
      {Op::cast, {x({5})}, {{"dtype", "f64"}}},
      {Op::copy, {x({5})}},
  };
}

inline std::vector<OpCase> linear_cases() {
  const Attributes dtype{{"dtype", "f64"}};
  return {
      {Op::embedding, {x({5, 3}), indices({4, 0, 4, 2})}},
      {Op::embedding_dw,
       {fixed({4, 3}), indices({4, 0, 4, 2})},
       {{"rows", std::int64_t{5}}, {"dtype", "f64"}}},
      {Op::embedding_dw,
       {fixed({4, 3}), indices({4, 0, 4, 2}), fixed({5, 3})},
       {{"rows", std::int64_t{5}}, {"dtype", "f64"}}},
      {Op::linear, {x({3, 4}), x({2, 4})}},
      {Op::linear, {x({3, 4}), x({2, 4}), x({2}), x({3, 2})}},
      {Op::linear, {x({3, 4}), x({2, 4}), absent(), x({3, 2})}},
      {Op::linear_dx, {fixed({3, 2}), fixed({2, 4})}},
      {Op::linear_dx, {fixed({3, 2}), fixed({2, 4}), fixed({3, 4})}},
      {Op::linear_dw, {fixed({3, 2}), fixed({3, 4})}, dtype},
      {Op::linear_dw, {fixed({3, 2}), fixed({3, 4}), fixed({2, 4})}, dtype},
      {Op::column_sum, {fixed({3, 4})}, dtype},
      {Op::column_sum, {fixed({3, 4}), fixed({4})}, dtype},
      {Op::head_loss, {x({4, 3}), x({6, 3}), indices({2, -100, 5, 0})}},
      {Op::head_loss_grad,
       {fixed({4, 3}), fixed({6, 3}), indices({2, -100, 5, 0}), wide({})},
       dtype},
      {Op::head_loss_grad,
       {fixed({4, 3}), fixed({6, 3}), indices({2, -100, 5, 0}), wide({}), fixed({6, 3})},
       dtype},
      {Op::adapted_head_loss,
       {x({4, 3}), fixed({6, 3}), indices({2, -100, 5, 0}), x({4, 2}), x({6, 2})}},
      {Op::adapted_head_loss_grad,
       {fixed({4, 3}), fixed({6, 3}), indices({2, -100, 5, 0}), fixed({4, 2}), fixed({6, 2}),
        wide({})},
       dtype},
      {Op::adapted_head_loss_grad,
       {fixed({4, 3}), fixed({6, 3}), indices({2, -100, 5, 0}), fixed({4, 2}), fixed({6, 2}),
        wide({}), fixed({6, 2})},
       dtype},
      {.op = Op::head_loss_grad,
       .inputs = {fixed({4, 3}), fixed({6, 3}), indices({2, -100, 5, 0}), wide({})},
       .output_count = 2},
  };
}

inline std::vector<OpCase> packed_cases() {
  const std::int64_t n = 10;
  const std::int64_t k = 15;  // 150 elements: three blocks, the last one short, rows across them
  const Attributes forward{{"format", "nf4"}, {"rows", n}};
  const Attributes backward{{"format", "nf4"}, {"columns", k}};
  const Attributes forward8{{"format", "int8"}, {"rows", n}};
  const Attributes backward8{{"format", "int8"}, {"columns", k}};
  const CaseInput bytes = codes({75});
  const CaseInput ints = codes({n * k}, DType::i8);
  return {
      {Op::packed_linear, {x({3, k}), bytes, scales({3})}, forward},
      {Op::packed_linear, {x({3, k}), bytes, codes({3}), scales({1}), scales({})}, forward},
      {Op::packed_linear,
       {x({3, k}), bytes, scales({3}), absent(), absent(), x({n}), x({3, n})},
       forward},
      {Op::packed_linear, {x({3, k}), ints, scales({n})}, forward8},
      {Op::packed_linear_dx, {fixed({3, n}), bytes, scales({3})}, backward},
      {Op::packed_linear_dx,
       {fixed({3, n}), bytes, codes({3}), scales({1}), scales({}), fixed({3, k})},
       backward},
      {Op::packed_linear_dx, {fixed({3, n}), ints, scales({n})}, backward8},
  };
}

inline std::vector<OpCase> row_cases() {
  const Attributes eps{{"eps", 1e-2}};
  const Attributes eps_dtype{{"eps", 1e-2}, {"dtype", "f64"}};
  const CaseInput positions = indices({0, 4, 1});
  return {
      {Op::rms_norm, {x({3, 4}), x({4})}, eps},
      {Op::rms_norm, {x({2, 3, 4}), x({4})}, eps},
      {Op::rms_norm_dx, {fixed({2, 3, 4}), fixed({2, 3, 4}), fixed({4})}, eps},
      {Op::rms_norm_dw, {fixed({2, 3, 4}), fixed({2, 3, 4})}, eps_dtype},
      {Op::rms_norm_dw, {fixed({3, 4}), fixed({3, 4}), fixed({4})}, eps_dtype},
      {Op::silu_mul, {x({3, 4}), x({3, 4})}},
      {Op::silu_mul_grad, {fixed({3, 4}), fixed({3, 4}), fixed({3, 4})}},
      {Op::rope, {x({3, 2, 4}), fixed({5, 2}), fixed({5, 2}), positions}},
      {Op::rope,
       {x({3, 2, 4}), fixed({5, 2}), fixed({5, 2}), positions},
       {{"inverse", std::int64_t{1}}}},
  };
}

inline std::vector<OpCase> adapter_cases() {
  const Attributes dtype{{"dtype", "f64"}};
  const CaseInput norms{
      .shape = {4}, .fill = Fill::positive, .differentiate = false, .indices = {}, .wide = true};
  return {
      {Op::scale_columns, {x({3, 4}), x({4}), norms}},
      {Op::scale_columns, {x({3, 4}), x({4}), norms, x({4})}},
      {Op::scale_columns_dw, {fixed({3, 4}), fixed({3, 4}), norms}, dtype},
      {Op::scale_columns_dw, {fixed({3, 4}), fixed({3, 4}), norms, fixed({4})}, dtype},
      {Op::dora_norm, {fixed({4, 5}), fixed({2, 5}), fixed({4, 2})}, {{"scale", 1.5}}},
      {Op::dropout,
       {x({3, 4}), draw(9), indices({0, 0, 1}), indices({0, 1, 0})},
       {{"rate", 0.3}, {"seed", std::int64_t{1}}, {"stream", std::int64_t{2}}}},
  };
}

inline std::vector<OpCase> attention_cases() {
  std::vector<OpCase> cases;
  for (const std::int64_t window : {0, 2}) {
    const Attributes attributes{{"scale", 0.7}, {"window", window}};
    const CaseInput documents = indices({0, 0, 0, 3, 3, 3, 3});
    cases.push_back(
        {Op::attention, {x({7, 4, 3}), x({7, 2, 3}), x({7, 2, 3}), documents}, attributes});
    cases.push_back({Op::attention_grad,
                     {fixed({7, 4, 3}), fixed({7, 2, 3}), fixed({7, 2, 3}), documents,
                      fixed({7, 4, 3}), wide({4, 7}), fixed({7, 4, 3})},
                     attributes});
  }
  return cases;
}

inline std::vector<OpCase> op_cases() {
  std::vector<OpCase> all = elementary_cases();
  for (const auto& more :
       {linear_cases(), packed_cases(), row_cases(), adapter_cases(), attention_cases()}) {
    all.insert(all.end(), more.begin(), more.end());
  }
  return all;
}

/// The graph of one case's node: inputs `in0`, `in1`, ..., outputs `y0`, `y1`, ...
struct CaseGraph {
  Graph graph{"case"};
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;
  std::vector<std::vector<double>> values;  ///< of the inputs

  std::string input_name(std::size_t i) const { return fmt::format("in{}", i); }
};

inline std::vector<double> fill_values(const CaseInput& input, std::mt19937& random) {
  std::normal_distribution<double> normal(0.0, 1.0);
  std::vector<double> values(input.indices.begin(), input.indices.end());
  if (input.fill == Fill::indices || input.fill == Fill::draw || input.fill == Fill::absent) {
    return values;
  }
  for (std::int64_t i = 0; i < input.shape.elements(); ++i) {
    if (input.fill == Fill::codes) {
      values.push_back(static_cast<double>(random() % 128));
      continue;
    }
    const double value = normal(random);
    values.push_back(input.fill == Fill::positive ? 0.5 + std::abs(value) : value);
  }
  return values;
}

/// Builds the node with float operands of `type`.
inline CaseGraph build_case(const OpCase& c, DType type = DType::f64) {
  CaseGraph built;
  std::mt19937 random(7);
  Builder builder(built.graph);
  const DType sums = type == DType::f64 ? DType::f64 : DType::f32;
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    const CaseInput& input = c.inputs[i];
    built.values.push_back(fill_values(input, random));
    DType held = input.held != DType::f64 ? input.held : input.wide ? sums : type;
    if (input.fill == Fill::indices) held = DType::i32;
    if (input.fill == Fill::draw) held = DType::i64;
    built.inputs.push_back(input.fill == Fill::absent
                               ? kNoValue
                               : builder.input(built.input_name(i), {held, input.shape},
                                               Role::activation, Scope::call));
  }
  Attributes attributes = c.attributes;
  if (attributes.has("dtype")) attributes.set("dtype", std::string(name_of(type)));
  built.outputs = builder.emit(c.op, built.inputs, attributes, "y", c.output_count);
  for (std::size_t i = 0; i < built.outputs.size(); ++i) {
    built.graph.rename_value(built.outputs[i], fmt::format("y{}", i));
  }
  built.graph.outputs = built.outputs;
  return built;
}

}  // namespace snug::test
