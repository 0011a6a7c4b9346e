// 4-bit codes: the 16 values of a block are multiplied and rounded once and then looked up, bytes
// at a time.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/unpack.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// The target's code comes after foreach_target.h.
#include <algorithm>

#include "backend/cpu/simd-inl.h"
#include "backend/cpu/unpack.h"
#include "core/dynamic_map.h"
#include "core/error.h"

HWY_BEFORE_NAMESPACE();
namespace snug {
namespace HWY_NAMESPACE {
namespace {

using Bytes = hn::FixedTag<uint8_t, 16>;
using HalfBytes = hn::FixedTag<uint8_t, 8>;

/// The values of one block's codes.
template <class T>
struct Values;

template <>
struct Values<float> {
  HWY_ALIGN float value[16];

  void set(const float* levels, float scale) {
    const Vec factor = hn::Set(F32(), scale);
    for (int64_t i = 0; i < 16; i += lanes()) store(hn::Mul(load(levels + i), factor), value + i);
  }
  /// Elements of `pairs` bytes.
  void look_up(const uint8_t* codes, int64_t pairs, float* to) const {
    for (int64_t i = 0; i < pairs; ++i) {
      to[2 * i] = value[codes[i] >> 4];
      to[2 * i + 1] = value[codes[i] & 15];
    }
  }
};

template <>
struct Values<BFloat16> {
  HWY_ALIGN BFloat16 value[16];
  HWY_ALIGN uint8_t low[16];
  HWY_ALIGN uint8_t high[16];

  void set(const float* levels, float scale) {
    const Vec factor = hn::Set(F32(), scale);
    const hn::Rebind<uint8_t, F32> byte;
    for (int64_t i = 0; i < 16; i += lanes()) {
      const auto bits = nearest_bf16(hn::Mul(load(levels + i), factor));
      store_bits(hn::TruncateTo(U16(), bits), value + i);
      hn::StoreU(hn::TruncateTo(byte, bits), byte, low + i);
      hn::StoreU(hn::TruncateTo(byte, hn::ShiftRight<8>(bits)), byte, high + i);
    }
  }

  void look_up(const uint8_t* codes, int64_t pairs, BFloat16* to) const {
    const Bytes d;
    const auto low_bytes = hn::Load(d, low);
    const auto high_bytes = hn::Load(d, high);
    // Sixteen codes, of which the first is the lowest byte.
    const auto write = [&](auto indices, BFloat16* out) HWY_ATTR {
      const auto l = hn::TableLookupBytes(low_bytes, indices);
      const auto h = hn::TableLookupBytes(high_bytes, indices);
      auto* const bytes = reinterpret_cast<uint8_t*>(out);
      hn::StoreU(hn::InterleaveLower(d, l, h), d, bytes);
      hn::StoreU(hn::InterleaveUpper(d, l, h), d, bytes + 16);
    };
    const auto mask = hn::Set(d, 15);
    int64_t i = 0;
    for (; i + 16 <= pairs; i += 16) {
      const auto both = hn::LoadU(d, codes + i);
      const auto first = hn::And(
          hn::BitCast(d, hn::ShiftRight<4>(hn::BitCast(hn::RepartitionToWide<Bytes>(), both))),
          mask);
      const auto second = hn::And(both, mask);
      write(hn::InterleaveLower(d, first, second), to + 2 * i);
      write(hn::InterleaveUpper(d, first, second), to + 2 * i + 16);
    }
    for (; i + 8 <= pairs; i += 8) {
      const auto both = hn::ZeroExtendVector(d, hn::LoadU(HalfBytes(), codes + i));
      const auto first = hn::And(
          hn::BitCast(d, hn::ShiftRight<4>(hn::BitCast(hn::RepartitionToWide<Bytes>(), both))),
          mask);
      write(hn::InterleaveLower(d, first, hn::And(both, mask)), to + 2 * i);
    }
    for (; i < pairs; ++i) {
      to[2 * i] = value[codes[i] >> 4];
      to[2 * i + 1] = value[codes[i] & 15];
    }
  }
};

/// `count` elements of the flattened matrix from `i` on.
template <class T>
void unpack_codes(const PackedMatrix& matrix, const float* levels, int64_t i, int64_t count,
                  T* to) {
  const int64_t end = i + count;
  const float* const map = matrix.nested == nullptr ? nullptr : signed_dynamic_map().data();
  Values<T> values;
  while (i < end) {
    const int64_t block = i / kPackedBlock;
    float scale;
    if (map == nullptr) {
      scale = static_cast<const float*>(matrix.scales)[block];
    } else {
      scale = map[static_cast<const uint8_t*>(matrix.scales)[block]] *
              matrix.nested[block / kNestedBlock];
      scale += matrix.offset;
    }
    values.set(levels, scale);
    const int64_t stop = std::min(end, (block + 1) * kPackedBlock);
    if (i % 2 != 0) *to++ = values.value[matrix.codes[i++ / 2] & 15];
    const int64_t pairs = (stop - i) / 2;
    values.look_up(matrix.codes + i / 2, pairs, to);
    i += 2 * pairs;
    to += 2 * pairs;
    if (i < stop) *to++ = values.value[matrix.codes[i++ / 2] >> 4];
  }
}

/// `count` elements of a row of int8 codes.
template <class T>
void unpack_bytes(const int8_t* codes, float scale, int64_t count, T* to) {
  const hn::Rebind<int8_t, F32> byte;
  const Vec factor = hn::Set(F32(), scale);
  const Vec step = hn::Set(F32(), kInt8Step);
  int64_t i = 0;
  for (; i + lanes() <= count; i += lanes()) {
    const auto code = hn::ConvertTo(F32(), hn::PromoteTo(I32(), hn::LoadU(byte, codes + i)));
    store(hn::Mul(hn::Mul(code, factor), step), to + i);
  }
  for (; i < count; ++i) to[i] = T(static_cast<float>(codes[i]) * scale * kInt8Step);
}

template <class T>
void unpack_rows(const PackedMatrix& matrix, const MatrixPiece& piece, T* to, int64_t stride) {
  const bool four = is_four_bit(matrix.format);
  const float* const levels = four ? levels_of(matrix.format).data() : nullptr;
  for (int64_t row = piece.row; row < piece.row + piece.rows; ++row, to += stride) {
    const int64_t first = row * matrix.columns + piece.column;
    if (four) {
      unpack_codes(matrix, levels, first, piece.columns, to);
    } else {
      unpack_bytes(reinterpret_cast<const int8_t*>(matrix.codes) + first,
                   static_cast<const float*>(matrix.scales)[row], piece.columns, to);
    }
  }
}

void unpack_piece(const PackedMatrix& matrix, const MatrixPiece& piece, void* to, DType type,
                  int64_t stride) {
  if (type == DType::bf16) {
    unpack_rows(matrix, piece, static_cast<BFloat16*>(to), stride);
  } else {
    unpack_rows(matrix, piece, static_cast<float*>(to), stride);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace snug
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace snug {

HWY_EXPORT(unpack_piece);

void unpack(const PackedMatrix& matrix, const MatrixPiece& piece, void* to, DType type,
            std::int64_t stride) {
  check(type == DType::bf16 || type == DType::f32, "packed weights are unpacked to bf16 and f32");
  HWY_DYNAMIC_DISPATCH(unpack_piece)(matrix, piece, to, type, stride);
}

}  // namespace snug
#endif
