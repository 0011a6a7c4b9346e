// Elementwise ops, movement and constants, an element a thread.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "backend/cuda/bodies_elements.h"
#include "backend/cuda/cuda_kernels.h"
#include "backend/cuda/operands.h"
#include "backend/cuda/plain_bodies.h"
#include "ir/builder.h"
#include "ir/rope.h"

namespace snug::cuda {
namespace {

template <Binary::Kind kKind>
void binary(const KernelCall& call) {
  const View y = out(call, 0);
  each(call.queue, y.size, Binary{kKind, in(call, 0), in(call, 1), y});
}

template <Unary::Kind kKind>
void unary(const KernelCall& call) {
  const View y = out(call, 0);
  double number = 0;
  if constexpr (kKind == Unary::Kind::scale) number = call.attributes.real("factor");
  if constexpr (kKind == Unary::Kind::shift) number = call.attributes.real("offset");
  each(call.queue, y.size, Unary{kKind, static_cast<float>(number), in(call, 0), y});
}

void fill(const KernelCall& call) {
  const View y = out(call, 0);
  std::uint64_t bits = 0;
  visit_dtype(y.type, [&](auto zero) {
    using T = decltype(zero);
    const double value = call.attributes.real("value");
    T element;
    if constexpr (std::is_arithmetic_v<T>) {
      element = static_cast<T>(value);
    } else {
      element = T(static_cast<float>(value));
    }
    std::memcpy(&bits, &element, sizeof(T));
  });
  each(call.queue, y.size, Fill{y, bits});
}

/// Rows of bytes, whatever the type.
void copy(const KernelCall& call) {
  const View from = in(call, 0);
  const View to = out(call, 0);
  const std::int64_t size = size_of(from.type);
  if (from.gap == 0 && to.gap == 0) {
    copy_bytes(call.queue, to.data, from.data, from.size * size);
    return;
  }
  copy_rows(call.queue, to.data, (to.row + to.gap) * size, from.data, (from.row + from.gap) * size,
            from.row * size, from.size / from.row);
}

void nothing(const KernelCall&) {}

void write_rows(const KernelCall& call) {
  const View part = in(call, 1);
  const View whole = out(call, 0);
  const std::int64_t size = size_of(part.type);
  const std::int64_t stride = (whole.row + whole.gap) * size;
  copy_rows(call.queue, whole.data + call.attributes.integer("begin") * stride, stride, part.data,
            (part.row + part.gap) * size, part.row * size, part.size / part.row);
}

void silu_mul(const KernelCall& call) {
  const View y = out(call, 0);
  each(call.queue, y.size, SiluMul{in(call, 0), in(call, 1), y});
}

void silu_mul_grad(const KernelCall& call) {
  each(call.queue, in(call, 2).size,
       SiluMulGrad{in(call, 0), in(call, 1), in(call, 2), out(call, 0), out(call, 1)});
}

void scale_columns(const KernelCall& call) {
  const View y = out(call, 0);
  each(call.queue, y.size,
       ScaleColumns{in(call, 0), in(call, 1), in(call, 2), in(call, 3), y, shape_out(call, 0)[1]});
}

void dropout(const KernelCall& call) {
  const View y = out(call, 0);
  const std::uint32_t threshold = dropout_threshold(call.attributes);
  const double factor = 65536.0 / (65536.0 - threshold);
  each(call.queue, y.size,
       Dropout{in(call, 0), y, rounding(call, 1), pointer<const std::int32_t>(call, 2),
               pointer<const std::int32_t>(call, 3), shape_out(call, 0)[1], threshold,
               static_cast<float>(factor)});
}

void rope(const KernelCall& call) {
  const Rope body = rope_of(call);
  each(call.queue, body.y.size / 2, body);
}

std::optional<std::string> rope_table_refuses(const KernelQuery& query) {
  if (query.outputs[0].type.shape[1] > RopeTable::kMostPairs) return "heads wider than 512";
  return std::nullopt;
}

void rope_table(const KernelCall& call) {
  RopeTable body{{}, out(call, 0), out(call, 1), shape_out(call, 0)[1]};
  for (std::int64_t pair = 0; pair < body.half; ++pair) {
    body.frequencies[pair] = rope_frequency(call.attributes, pair);
  }
  each(call.queue, body.cos.size, body);
}

/// A gather whose y has `shape`; strides, from a's dense ones, and begin are the caller's.
Gather gather(const KernelCall& call, const Shape& shape) {
  Gather body{in(call, 0), out(call, 0), {1, 1, 1, 1}, {}, 0};
  for (int axis = 0; axis < shape.rank(); ++axis) {
    body.dims[Gather::kRank - shape.rank() + axis] = shape[axis];
  }
  return body;
}

std::int64_t dense_stride(const Shape& shape, int axis) {
  std::int64_t stride = 1;
  for (int i = axis + 1; i < shape.rank(); ++i) stride *= shape[i];
  return stride;
}

void broadcast(const KernelCall& call) {
  const Shape& from = shape_in(call, 0);
  Gather body = gather(call, shape_out(call, 0));
  for (int axis = 0; axis < from.rank(); ++axis) {
    body.strides[Gather::kRank - from.rank() + axis] =
        from[axis] == 1 ? 0 : dense_stride(from, axis);
  }
  each(call.queue, body.y.size, body);
}

void permute(const KernelCall& call) {
  const Shape order = shape_from_text(call.attributes.text("order"));
  Gather body = gather(call, shape_out(call, 0));
  for (int axis = 0; axis < order.rank(); ++axis) {
    body.strides[Gather::kRank - order.rank() + axis] =
        dense_stride(shape_in(call, 0), static_cast<int>(order[axis]));
  }
  each(call.queue, body.y.size, body);
}

void slice(const KernelCall& call) {
  const Shape& from = shape_in(call, 0);
  Gather body = gather(call, shape_out(call, 0));
  for (int axis = 0; axis < from.rank(); ++axis) {
    body.strides[Gather::kRank - from.rank() + axis] = dense_stride(from, axis);
  }
  body.begin = call.attributes.integer("begin") *
               dense_stride(from, static_cast<int>(call.attributes.integer("axis")));
  each(call.queue, body.y.size, body);
}

void concat(const KernelCall& call) {
  const auto axis = static_cast<int>(call.attributes.integer("axis"));
  const View y = out(call, 0);
  each(call.queue, y.size,
       Concat{in(call, 0), in(call, 1), y, shape_in(call, 0)[axis], shape_out(call, 0)[axis],
              dense_stride(shape_out(call, 0), axis)});
}

void one_hot(const KernelCall& call) {
  const View y = out(call, 0);
  each(call.queue, y.size, OneHot{in(call, 0), y, shape_out(call, 0)[1]});
}

void document_mask(const KernelCall& call) {
  const View y = out(call, 0);
  each(call.queue, y.size,
       DocumentMask{in(call, 0), y, shape_in(call, 0)[0], call.attributes.integer("window")});
}

void cache_write(const KernelCall& call) {
  const Shape& x = shape_in(call, 1);
  each(call.queue, x.elements(),
       CacheWrite{in(call, 1), out(call, 0), pointer<const std::int32_t>(call, 2), x[1] * x[2],
                  shape_out(call, 0)[0]});
}

template <bool kMaximum>
void reduce(const KernelCall& call) {
  const Shape& shape = shape_in(call, 0);
  const auto axis = static_cast<int>(call.attributes.integer("axis"));
  const int at = axis < 0 ? axis + shape.rank() : axis;
  const View y = out(call, 0);
  each(call.queue, y.size, Reduce{in(call, 0), y, shape[at], dense_stride(shape, at), kMaximum});
}

void apply_gate(const KernelCall& call) {
  each(call.queue, 1,
       Gate{pointer<const std::int32_t>(call, 0), pointer<const std::int32_t>(call, 1),
            call.outputs[0].as<std::int32_t>()});
}

constexpr Kernel plain(std::string_view name, Op op, void (*run)(const KernelCall&)) {
  return {.name = name, .op = op, .refuses = refuses_double, .run = run};
}

constexpr Kernel kKernels[] = {
    plain("cuda_plain_add", Op::add, binary<Binary::Kind::add>),
    plain("cuda_plain_sub", Op::sub, binary<Binary::Kind::sub>),
    plain("cuda_plain_mul", Op::mul, binary<Binary::Kind::mul>),
    plain("cuda_plain_div", Op::div, binary<Binary::Kind::div>),
    plain("cuda_plain_scale", Op::scale, unary<Unary::Kind::scale>),
    plain("cuda_plain_shift", Op::shift, unary<Unary::Kind::shift>),
    plain("cuda_plain_exp", Op::exp, unary<Unary::Kind::exp>),
    plain("cuda_plain_log", Op::log, unary<Unary::Kind::log>),
    plain("cuda_plain_rsqrt", Op::rsqrt, unary<Unary::Kind::rsqrt>),
    plain("cuda_plain_sigmoid", Op::sigmoid, unary<Unary::Kind::sigmoid>),
    plain("cuda_plain_cast", Op::cast, unary<Unary::Kind::same>),
    plain("cuda_plain_reduce_sum", Op::reduce_sum, reduce<false>),
    plain("cuda_plain_reduce_max", Op::reduce_max, reduce<true>),
    plain("cuda_plain_broadcast", Op::broadcast, broadcast),
    plain("cuda_plain_permute", Op::permute, permute),
    plain("cuda_plain_slice", Op::slice, slice),
    plain("cuda_plain_concat", Op::concat, concat),
    plain("cuda_plain_one_hot", Op::one_hot, one_hot),
    plain("cuda_plain_document_mask", Op::document_mask, document_mask),
    {.name = "cuda_plain_fill", .op = Op::fill, .run = fill},
    {.name = "cuda_plain_copy", .op = Op::copy, .run = copy},
    {.name = "cuda_plain_copy_start", .op = Op::copy_start, .run = copy},
    {.name = "cuda_plain_copy_wait", .op = Op::copy_wait, .run = nothing},
    {.name = "cuda_plain_write_rows", .op = Op::write_rows, .run = write_rows},
    plain("cuda_plain_cache_write", Op::cache_write, cache_write),
    plain("cuda_plain_silu_mul", Op::silu_mul, silu_mul),
    plain("cuda_plain_silu_mul_grad", Op::silu_mul_grad, silu_mul_grad),
    plain("cuda_plain_scale_columns", Op::scale_columns, scale_columns),
    plain("cuda_plain_dropout", Op::dropout, dropout),
    plain("cuda_plain_rope", Op::rope, rope),
    {.name = "cuda_plain_rope_table",
     .op = Op::rope_table,
     .refuses = rope_table_refuses,
     .run = rope_table},
    {.name = "cuda_plain_apply_gate", .op = Op::apply_gate, .run = apply_gate},
};

}  // namespace

std::span<const Kernel> plain_elements() { return kKernels; }

Rope rope_of(const KernelCall& call) {
  const Shape& shape = shape_in(call, 0);
  return {.x = in(call, 0),
          .cos = in(call, 1),
          .sin = in(call, 2),
          .y = out(call, 0),
          .positions = pointer<const std::int32_t>(call, 3),
          .heads = shape[1],
          .half = shape[2] / 2,
          .table_rows = shape_in(call, 1)[0],
          .sign = call.attributes.integer_or("inverse", 0) != 0 ? -1.0F : 1.0F};
}

}  // namespace snug::cuda
