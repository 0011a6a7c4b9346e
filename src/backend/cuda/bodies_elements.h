#pragma once
// Elementwise bodies, movement and constants.

#include "backend/cuda/view.h"

namespace snug::cuda {

struct Binary {
  enum class Kind { add, sub, mul, div };
  Kind kind;
  View a, b, y;

  SNUG_HD void operator()(std::int64_t i) const {
    const float left = a.get(i);
    const float right = b.get(i);
    switch (kind) {
      case Kind::add:
        return y.set(i, left + right);
      case Kind::sub:
        return y.set(i, left - right);
      case Kind::mul:
        return y.set(i, left * right);
      case Kind::div:
        return y.set(i, left / right);
    }
  }
};

struct Unary {
  enum class Kind { same, scale, shift, exp, log, rsqrt, sigmoid };
  Kind kind;
  float number;  ///< of scale and shift
  View a, y;

  SNUG_HD float of(float x) const {
    switch (kind) {
      case Kind::same:
        return x;
      case Kind::scale:
        return x * number;
      case Kind::shift:
        return x + number;
      case Kind::exp:
        return expf(x);
      case Kind::log:
        return logf(x);
      case Kind::rsqrt:
        return 1.0F / sqrtf(x);
      case Kind::sigmoid:
        return 1.0F / (1.0F + expf(-x));
    }
    return x;
  }
  SNUG_HD void operator()(std::int64_t i) const { y.set(i, of(a.get(i))); }
};

/// A constant, bit for bit: the element lies in the low bytes of `bits`.
struct Fill {
  View y;
  std::uint64_t bits;

  SNUG_HD void operator()(std::int64_t i) const {
    switch (size_of(y.type)) {
      case 8:
        y.at<std::uint64_t>(i) = bits;
        return;
      case 4:
        y.at<std::uint32_t>(i) = static_cast<std::uint32_t>(bits);
        return;
      case 2:
        y.at<std::uint16_t>(i) = static_cast<std::uint16_t>(bits);
        return;
      default:
        y.at<std::uint8_t>(i) = static_cast<std::uint8_t>(bits);
        return;
    }
  }
};

struct SiluMul {
  View gate, up, y;
  SNUG_HD void operator()(std::int64_t i) const {
    const float z = gate.get(i);
    y.set(i, z / (1.0F + expf(-z)) * up.get(i));
  }
};

struct SiluMulGrad {
  View gate, up, dy, dgate, dup;
  SNUG_HD void operator()(std::int64_t i) const {
    const float z = gate.get(i);
    const float u = up.get(i);
    const float d = dy.get(i);
    const float s = 1.0F / (1.0F + expf(-z));
    dgate.set(i, d * u * s * (1.0F + z * (1.0F - s)));
    dup.set(i, d * z * s);
  }
};

struct ScaleColumns {
  View x, m, n, bias, y;
  std::int64_t columns;
  SNUG_HD void operator()(std::int64_t i) const {
    const std::int64_t c = i % columns;
    y.set(i, x.get(i) * (m.get(c) / n.get(c)) + (bias.present() ? bias.get(c) : 0.0F));
  }
};

struct Dropout {
  View x, y;
  Rounding draw;
  const std::int32_t* rows;
  const std::int32_t* positions;
  std::int64_t width;
  std::uint32_t threshold;
  float factor;
  SNUG_HD void operator()(std::int64_t i) const {
    const std::int64_t t = i / width;
    RandomStream stream = draw.at(0);
    stream.part = static_cast<std::uint32_t>(rows[t]);
    const auto element = static_cast<std::uint64_t>(positions[t] * width + i % width);
    y.set(i, stream.bits16(element) < threshold ? 0.0F : x.get(i) * factor);
  }
};

/// Element j of a head's first half turns with element j of its second.
struct Rope {
  View x, cos, sin, y;
  const std::int32_t* positions;
  std::int64_t heads, half, table_rows;
  float sign;
  SNUG_HD void operator()(std::int64_t i) const {
    const std::int64_t row = i / half;
    const std::int64_t j = i % half;
    const std::int64_t position = positions[row / heads];
    const bool known = position >= 0 && position < table_rows;
    const float c = known ? cos.get(position * half + j) : NAN;
    const float s = known ? sign * sin.get(position * half + j) : NAN;
    const std::int64_t low = row * 2 * half + j;
    const float a = x.get(low);
    const float b = x.get(low + half);
    y.set(low, a * c - b * s);
    y.set(low + half, b * c + a * s);
  }
};

/// `frequencies` are radians a position.
struct RopeTable {
  static constexpr std::int64_t kMostPairs = 256;
  double frequencies[kMostPairs];
  View cos, sin;
  std::int64_t half;
  SNUG_HD void operator()(std::int64_t i) const {
    const std::int64_t position = i / half;
    const double angle = static_cast<double>(position) * frequencies[i % half];
    cos.set(i, static_cast<float>(::cos(angle)));
    sin.set(i, static_cast<float>(::sin(angle)));
  }
};

/// y[i] = a[sum over axes of (coordinate + offset) * stride]; strides of 0 repeat.
struct Gather {
  static constexpr int kRank = 4;
  View a, y;
  std::int64_t dims[kRank];     ///< of y, outermost first; missing ones are 1
  std::int64_t strides[kRank];  ///< in a, for each of y's axes
  std::int64_t begin;           ///< element of a
  SNUG_HD void operator()(std::int64_t i) const {
    std::int64_t rest = i;
    std::int64_t from = begin;
    for (int axis = kRank - 1; axis >= 0; --axis) {
      from += rest % dims[axis] * strides[axis];
      rest /= dims[axis];
    }
    y.set(i, a.get(from));
  }
};

struct Concat {
  View a, b, y;
  std::int64_t border, along, inner;  ///< a's and y's size along the axis, elements behind it
  SNUG_HD void operator()(std::int64_t i) const {
    const std::int64_t at = i / inner % along;
    const std::int64_t outer = i / inner / along;
    const std::int64_t rest = i % inner;
    y.set(i, at < border ? a.get((outer * border + at) * inner + rest)
                         : b.get((outer * (along - border) + at - border) * inner + rest));
  }
};

struct OneHot {
  View labels, y;
  std::int64_t depth;
  SNUG_HD void operator()(std::int64_t i) const {
    y.set(i, labels.integer(i / depth) == i % depth ? 1.0F : 0.0F);
  }
};

struct DocumentMask {
  View start, y;
  std::int64_t tokens, window;
  SNUG_HD void operator()(std::int64_t i) const {
    const std::int64_t row = i / tokens;
    const std::int64_t column = i % tokens;
    std::int64_t first = start.integer(row);
    if (window > 0 && row - window + 1 > first) first = row - window + 1;
    y.set(i, first <= column && column <= row ? 0.0F : -1e30F);
  }
};

/// Rows of x into the cache from row *position on.
struct CacheWrite {
  View x, cache;
  const std::int32_t* position;
  std::int64_t row, rows;  ///< elements of a row; rows of the cache
  SNUG_HD void operator()(std::int64_t i) const {
    const std::int64_t to = *position + i / row;
    if (to >= 0 && to < rows) cache.set(to * row + i % row, x.get(i));
  }
};

/// The sum or the maximum along one axis.
struct Reduce {
  View a, y;
  std::int64_t along, inner;
  bool maximum;
  SNUG_HD void operator()(std::int64_t i) const {
    float result = maximum ? -INFINITY : 0.0F;
    for (std::int64_t j = 0; j < along; ++j) {
      const float value = a.get((i / inner * along + j) * inner + i % inner);
      if (!maximum) {
        result += value;
      } else if (value > result || value != value) {
        result = value;
      }
    }
    y.set(i, result);
  }
};

/// apply_gate: 1 when both are non-zero.
struct Gate {
  const std::int32_t* a;
  const std::int32_t* b;
  std::int32_t* y;
  SNUG_HD void operator()(std::int64_t) const { *y = *a != 0 && *b != 0 ? 1 : 0; }
};

}  // namespace snug::cuda
