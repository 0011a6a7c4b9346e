#include "backend/cuda/operands.h"

#include <algorithm>

#include "core/dynamic_map.h"
#include "core/packed_format.h"

namespace snug::cuda {

View view(const Operand& operand) {
  if (operand.data == nullptr) return {};
  const TensorType& type = operand.layout.type;
  View view{.data = operand.data, .type = type.dtype, .size = type.shape.elements()};
  const std::int64_t rows = type.shape.rank() == 0 ? 1 : type.shape[0];
  view.row = std::max<std::int64_t>(1, view.size / std::max<std::int64_t>(1, rows));
  const std::int64_t stride = operand.layout.row_stride;
  view.gap = stride == 0 || type.shape.rank() == 0 || rows == 1 ? 0 : stride - view.row;
  return view;
}

Rounding rounding(const KernelCall& call, std::size_t i) {
  const auto* const draw = pointer<std::int64_t>(call, i);
  if (draw == nullptr) return {};
  return {.draw = draw,
          .seed = static_cast<std::uint64_t>(call.attributes.integer("seed")),
          .stream = static_cast<std::uint64_t>(call.attributes.integer("stream"))};
}

Sum sum_of(const KernelCall& call, std::size_t output, std::size_t at) {
  return {.out = out(call, output), .acc = in(call, at), .rounding = rounding(call, at + 1)};
}

Packed packed(const KernelCall& call, std::size_t first, std::int64_t columns) {
  const PackedFormat format = *packed_format_from_name(call.attributes.text("format"));
  Packed packed{.four_bit = is_four_bit(format),
                .codes = pointer<const std::uint8_t>(call, first),
                .scales = pointer<const std::byte>(call, first + 1),
                .nested = pointer<const float>(call, first + 2),
                .offset = pointer<const float>(call, first + 3),
                .columns = columns,
                .block = kPackedBlock,
                .nested_block = kNestedBlock,
                .step = kInt8Step,
                .all = {}};
  if (packed.four_bit) std::ranges::copy(levels_of(format), packed.all.levels);
  std::ranges::copy(signed_dynamic_map(), packed.all.map);
  return packed;
}

View part_of(const View& whole, std::int64_t begin, std::int64_t size) {
  if (!whole.present()) return {};
  check(whole.gap == 0, "a part of rows with gaps");
  View part = whole;
  part.data += begin * size_of(whole.type);
  part.size = size;
  return part;
}

View floats(float* data, std::int64_t size) {
  return {.data = reinterpret_cast<std::byte*>(data), .type = DType::f32, .size = size};
}

Factor rows_of(const View& view, std::int64_t inner_size) {
  return {.of = view, .outer = inner_size, .inner = 1};
}

Factor columns_of(const View& view, std::int64_t outer_size) {
  return {.of = view, .outer = 1, .inner = outer_size};
}

Product linear_product(const KernelCall& call) {
  const std::int64_t inner = shape_in(call, 0)[1];
  return {rows_of(in(call, 0), inner), rows_of(in(call, 1), inner), in(call, 2), sum_of(call, 0, 3),
          shape_out(call, 0)[0],       shape_out(call, 0)[1],       inner};
}

Product linear_dx_product(const KernelCall& call) {
  const std::int64_t inner = shape_in(call, 1)[0];
  const std::int64_t columns = shape_in(call, 1)[1];
  return {rows_of(in(call, 0), inner),
          columns_of(in(call, 1), columns),
          {},
          sum_of(call, 0, 2),
          shape_out(call, 0)[0],
          columns,
          inner};
}

Product linear_dw_product(const KernelCall& call) {
  const std::int64_t rows = shape_in(call, 0)[1];
  const std::int64_t columns = shape_in(call, 1)[1];
  return {columns_of(in(call, 0), rows),
          columns_of(in(call, 1), columns),
          {},
          sum_of(call, 0, 2),
          rows,
          columns,
          shape_in(call, 0)[0]};
}

namespace {

bool any_of(const KernelQuery& query, bool (*holds)(const OperandLayout&)) {
  return std::any_of(query.inputs.begin(), query.inputs.end(), holds) ||
         std::any_of(query.outputs.begin(), query.outputs.end(), holds);
}

}  // namespace

std::optional<std::string> refuses_double(const KernelQuery& query) {
  const bool found = any_of(query, [](const OperandLayout& layout) {
    return layout.present && layout.type.dtype == DType::f64;
  });
  if (found) return "f64";
  return std::nullopt;
}

std::optional<std::string> refuses_gaps(const KernelQuery& query) {
  const bool found = any_of(query, [](const OperandLayout& layout) {
    const Shape& shape = layout.type.shape;
    if (!layout.present || shape.rank() == 0 || shape[0] <= 1) return false;
    return layout.row_stride != 0 && layout.row_stride != shape.elements() / shape[0];
  });
  if (found) return "rows with gaps";
  return refuses_double(query);
}

}  // namespace snug::cuda
