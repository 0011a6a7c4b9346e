// Ops that move elements or make constants.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "backend/reference/elements.h"
#include "backend/reference/kernels.h"
#include "ir/builder.h"
#include "ir/rope.h"

namespace snug::reference {
namespace {

using Index = std::array<std::int64_t, Shape::kMaxRank>;

/// The coordinates of dense element i.
Index coordinates(const Shape& shape, std::int64_t i) {
  Index index{};
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    index[static_cast<std::size_t>(axis)] = i % shape[axis];
    i /= shape[axis];
  }
  return index;
}

std::int64_t flat(const Shape& shape, const Index& index) {
  std::int64_t i = 0;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    i = i * shape[axis] + index[static_cast<std::size_t>(axis)];
  }
  return i;
}

/// y[i] = a[source(coordinates of i)].
template <class Source>
void gather(const KernelCall& call, Source source) {
  const Elements a = input(call, 0);
  const Elements y = output(call, 0);
  for (std::int64_t i = 0; i < y.size(); ++i) {
    y.set(i, a[flat(a.shape(), source(coordinates(y.shape(), i)))]);
  }
}

void broadcast(const KernelCall& call) {
  const Shape& from = call.inputs[0].layout.type.shape;
  const int missing = call.outputs[0].layout.type.shape.rank() - from.rank();
  gather(call, [&](const Index& to) {
    Index index{};
    for (int i = 0; i < from.rank(); ++i) {
      const auto at = static_cast<std::size_t>(i);
      index[at] = from[i] == 1 ? 0 : to[at + static_cast<std::size_t>(missing)];
    }
    return index;
  });
}

void permute(const KernelCall& call) {
  const Shape order = shape_from_text(call.attributes.text("order"));
  gather(call, [&](const Index& to) {
    Index index{};
    for (int i = 0; i < order.rank(); ++i) {
      index[static_cast<std::size_t>(order[i])] = to[static_cast<std::size_t>(i)];
    }
    return index;
  });
}

void slice(const KernelCall& call) {
  const auto axis = static_cast<std::size_t>(call.attributes.integer("axis"));
  const std::int64_t begin = call.attributes.integer("begin");
  gather(call, [&](Index index) {
    index[axis] += begin;
    return index;
  });
}

void concat(const KernelCall& call) {
  const Elements a = input(call, 0);
  const Elements b = input(call, 1);
  const Elements y = output(call, 0);
  const std::int64_t axis = call.attributes.integer("axis");
  const std::int64_t border = a.shape()[static_cast<int>(axis)];
  for (std::int64_t i = 0; i < y.size(); ++i) {
    Index index = coordinates(y.shape(), i);
    std::int64_t& along = index[static_cast<std::size_t>(axis)];
    if (along < border) {
      y.set(i, a[flat(a.shape(), index)]);
    } else {
      along -= border;
      y.set(i, b[flat(b.shape(), index)]);
    }
  }
}

void one_hot(const KernelCall& call) {
  const Elements labels = input(call, 0);
  const Elements y = output(call, 0);
  const std::int64_t depth = y.shape()[1];
  for (std::int64_t i = 0; i < y.size(); ++i) {
    y.set(i, labels.integer(i / depth) == i % depth ? 1.0 : 0.0);
  }
}

void document_mask(const KernelCall& call) {
  const Elements start = input(call, 0);
  const Elements y = output(call, 0);
  const std::int64_t tokens = start.size();
  const std::int64_t window = call.attributes.integer("window");
  for (std::int64_t i = 0; i < y.size(); ++i) {
    const std::int64_t row = i / tokens;
    const std::int64_t column = i % tokens;
    const std::int64_t first =
        std::max(start.integer(row), window > 0 ? row - window + 1 : std::int64_t{0});
    y.set(i, first <= column && column <= row ? 0.0 : -1e30);
  }
}

void fill(const KernelCall& call) {
  const Elements y = output(call, 0);
  const double value = call.attributes.real("value");
  for (std::int64_t i = 0; i < y.size(); ++i) y.set(i, value);
}

/// Bit for bit, whatever the type.
void copy(const KernelCall& call) {
  const Operand& from = call.inputs[0];
  const Operand& to = call.outputs[0];
  const Shape& shape = from.layout.type.shape;
  const std::int64_t rows = shape.rank() == 0 ? 1 : shape[0];
  const std::int64_t row = shape.elements() / std::max<std::int64_t>(1, rows);
  const std::int64_t size = size_of(from.layout.type.dtype);
  const auto stride = [&](const Operand& operand) {
    return size * (operand.layout.row_stride == 0 ? row : operand.layout.row_stride);
  };
  for (std::int64_t r = 0; r < rows; ++r) {
    std::memcpy(to.data + r * stride(to), from.data + r * stride(from),
                static_cast<std::size_t>(row * size));
  }
}

void nothing(const KernelCall&) {}

void rope_table(const KernelCall& call) {
  const Elements cos = output(call, 0);
  const Elements sin = output(call, 1);
  const std::int64_t half = cos.shape()[1];
  for (std::int64_t i = 0; i < cos.size(); ++i) {
    const std::int64_t position = i / half;
    const double angle = static_cast<double>(position) * rope_frequency(call.attributes, i % half);
    cos.set(i, std::cos(angle));
    sin.set(i, std::sin(angle));
  }
}

void write_rows(const KernelCall& call) {
  const Elements part = input(call, 1);
  const Elements whole = output(call, 0);
  const std::int64_t rows = part.shape()[0];
  const std::int64_t row = rows == 0 ? 0 : part.size() / rows;
  const std::int64_t first = call.attributes.integer("begin") * row;
  for (std::int64_t i = 0; i < part.size(); ++i) whole.set(first + i, part[i]);
}

constexpr Kernel kKernels[] = {
    {.name = "reference_broadcast", .op = Op::broadcast, .run = broadcast},
    {.name = "reference_permute", .op = Op::permute, .run = permute},
    {.name = "reference_slice", .op = Op::slice, .run = slice},
    {.name = "reference_concat", .op = Op::concat, .run = concat},
    {.name = "reference_one_hot", .op = Op::one_hot, .run = one_hot},
    {.name = "reference_document_mask", .op = Op::document_mask, .run = document_mask},
    {.name = "reference_fill", .op = Op::fill, .run = fill},
    {.name = "reference_copy", .op = Op::copy, .run = copy},
    {.name = "reference_copy_start", .op = Op::copy_start, .run = copy},
    {.name = "reference_copy_wait", .op = Op::copy_wait, .run = nothing},
    {.name = "reference_rope_table", .op = Op::rope_table, .run = rope_table},
    {.name = "reference_write_rows", .op = Op::write_rows, .run = write_rows},
};

}  // namespace

std::span<const Kernel> movement() { return kKernels; }

}  // namespace snug::reference
