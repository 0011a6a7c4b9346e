// From fp32 sums to the output: bias, accumulation, rounding.

#include <algorithm>

#include "backend/cpu/gemm_engine.h"
#include "backend/cpu/philox_fill.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/gemm_output.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h, which includes this file once a target.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace snug::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;
using Words = hn::RebindToUnsigned<Floats>;
using Halves = hn::Rebind<std::uint16_t, Floats>;
constexpr std::int64_t kLanes = static_cast<std::int64_t>(hn::MaxLanes(Floats()));

HWY_INLINE hn::Vec<Floats> load(const float* from) { return hn::LoadU(Floats(), from); }

HWY_INLINE hn::Vec<Floats> load(const BFloat16* from) {
  const auto bits = hn::LoadU(Halves(), reinterpret_cast<const std::uint16_t*>(from));
  return hn::BitCast(Floats(), hn::ShiftLeft<16>(hn::PromoteTo(Words(), bits)));
}

HWY_INLINE void store_words(hn::Vec<Words> bits, BFloat16* to) {
  const hn::RebindToSigned<Floats> integers;
  const auto half = hn::DemoteTo(Halves(), hn::BitCast(integers, hn::ShiftRight<16>(bits)));
  hn::StoreU(half, Halves(), reinterpret_cast<std::uint16_t*>(to));
}

// BFloat16::round in vectors.
HWY_INLINE hn::Vec<Words> rounded(hn::Vec<Floats> value) {
  const Words words;
  const auto bits = hn::BitCast(words, value);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(words, 1));
  const auto nearest = hn::Add(bits, hn::Add(odd, hn::Set(words, 0x7fff)));
  const auto quiet = hn::Or(bits, hn::Set(words, 0x400000));
  return hn::IfThenElse(hn::RebindMask(words, hn::IsNaN(value)), quiet, nearest);
}

HWY_INLINE void store(hn::Vec<Floats> value, const std::uint16_t*, float* to) {
  hn::StoreU(value, Floats(), to);
}

// BFloat16::round_stochastic in vectors when there are random bits.
HWY_INLINE void store(hn::Vec<Floats> value, const std::uint16_t* random, BFloat16* to) {
  if (random == nullptr) return store_words(rounded(value), to);
  const Words words;
  const auto bits = hn::BitCast(words, value);
  const auto added = hn::Add(bits, hn::PromoteTo(words, hn::LoadU(Halves(), random)));
  const auto exponent = hn::Set(words, 0x7f800000);
  const auto finite = hn::Ne(hn::And(bits, exponent), exponent);
  if (HWY_LIKELY(hn::AllTrue(words, finite))) return store_words(added, to);
  store_words(hn::IfThenElse(finite, added, rounded(value)), to);
}

// One vector of an output row. Absent operands are nullptr.
template <class Bias, class Out>
HWY_INLINE void finish(const float* values, const Bias* bias, const Out* added,
                       const std::uint16_t* random, Out* to) {
  auto value = load(values);
  if (bias != nullptr) value = hn::Add(value, load(bias));
  if (added != nullptr) value = hn::Add(value, load(added));
  store(value, random, to);
}

// The last, partial vector of a row goes through copies: nothing beyond the row is touched.
template <class Bias, class Out>
HWY_NOINLINE void finish_tail(const float* values, const Bias* bias, const Out* added,
                              const std::uint16_t* random, Out* to, std::int64_t count) {
  float value[kLanes] = {};
  Bias one_bias[kLanes] = {};
  Out one_added[kLanes] = {};
  Out result[kLanes];
  std::uint16_t one_random[kLanes] = {};
  std::copy_n(values, count, value);
  if (bias != nullptr) std::copy_n(bias, count, one_bias);
  if (added != nullptr) std::copy_n(added, count, one_added);
  if (random != nullptr) std::copy_n(random, count, one_random);
  finish(value, bias == nullptr ? nullptr : one_bias,
         added == nullptr ? nullptr : static_cast<const Out*>(one_added),
         random == nullptr ? nullptr : one_random, result);
  std::copy_n(result, count, to);
}

template <class Bias, class Out>
HWY_INLINE void finish_row(const float* values, const Bias* bias, const std::uint16_t* random,
                           bool accumulate, Out* to, std::int64_t cols) {
  const auto at = [](auto* base, std::int64_t i) { return base == nullptr ? nullptr : base + i; };
  const Out* added = accumulate ? to : nullptr;
  std::int64_t i = 0;
  for (; i + kLanes <= cols; i += kLanes) {
    finish(values + i, at(bias, i), at(added, i), at(random, i), to + i);
  }
  if (i < cols) {
    finish_tail(values + i, at(bias, i), at(added, i), at(random, i), to + i, cols - i);
  }
}

template <class Bias, class Out>
void finish_block(const GemmOutput& output, const float* values, std::int64_t value_stride,
                  std::int64_t row, std::int64_t col, std::int64_t rows, std::int64_t cols) {
  constexpr std::int64_t kRandomColumns = 512;
  alignas(64) std::uint16_t random[kRandomColumns];
  const std::int64_t width = output.rounding ? kRandomColumns : cols;
  for (std::int64_t r = 0; r < rows; ++r) {
    Out* const to = static_cast<Out*>(output.data) + (row + r) * output.stride + col;
    for (std::int64_t c = 0; c < cols; c += width) {
      const std::int64_t count = std::min(width, cols - c);
      if (output.rounding) {
        const StochasticRounding& rounding = *output.rounding;
        fill_bits16(rounding.random,
                    rounding.first + static_cast<std::uint64_t>(row + r) * rounding.row_elements +
                        static_cast<std::uint64_t>(col + c),
                    count, random);
      }
      const Bias* bias =
          output.bias == nullptr ? nullptr : static_cast<const Bias*>(output.bias) + col + c;
      finish_row(values + r * value_stride + c, bias, output.rounding ? random : nullptr,
                 output.accumulate, to + c, count);
    }
  }
}

void finish_any(const GemmOutput& output, const float* values, std::int64_t value_stride,
                std::int64_t row, std::int64_t col, std::int64_t rows, std::int64_t cols) {
  const bool bf16_bias = output.bias_dtype == DType::bf16;
  const auto finish_as = [&](auto* block) {
    block(output, values, value_stride, row, col, rows, cols);
  };
  if (output.dtype == DType::bf16) {
    finish_as(bf16_bias ? finish_block<BFloat16, BFloat16> : finish_block<float, BFloat16>);
  } else {
    finish_as(bf16_bias ? finish_block<BFloat16, float> : finish_block<float, float>);
  }
}

}  // namespace
}  // namespace snug::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace snug {
HWY_EXPORT(finish_any);

void store_block(const GemmOutput& output, const float* values, std::int64_t value_stride,
                 std::int64_t row, std::int64_t col, std::int64_t rows, std::int64_t cols) {
  HWY_DYNAMIC_DISPATCH(finish_any)(output, values, value_stride, row, col, rows, cols);
}

}  // namespace snug
#endif
