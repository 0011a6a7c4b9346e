#include "backend/cpu/unpack.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstdlib>
#include <random>

#include "backend/cpu/gemm.h"
#include "backend/cpu/isa.h"
#include "backend/kernel_testing.h"

namespace snug::testing {
namespace {

Isa machine_isa() {
  static const Isa isa = [] {
    const char* cap = std::getenv("SNUG_TEST_ISA");
    Isa best = detect_isa();
    if (cap != nullptr) {
      best = std::min(best, isa_from_name(cap).value());
      cap_isa(best);
    }
    return best;
  }();
  return isa;
}

/// A random packed matrix between guard bytes.
class Packed {
 public:
  Packed(PackedFormat format, std::int64_t rows, std::int64_t columns, bool nested)
      : codes_(packed_code_bytes(format, rows * columns)),
        scale_codes_(packed_scales(format, rows, columns)),
        scales_(packed_scales(format, rows, columns)),
        nested_(nested_scales(packed_scales(format, rows, columns))) {
    std::mt19937_64 random(11);
    std::uniform_real_distribution<float> positive(0.01F, 3.0F);
    for (std::int64_t i = 0; i < codes_.size(); ++i)
      codes_[i] = static_cast<std::uint8_t>(random());
    for (std::int64_t i = 0; i < scales_.size(); ++i) {
      scales_[i] = positive(random);
      scale_codes_[i] = static_cast<std::uint8_t>(random());
    }
    for (std::int64_t i = 0; i < nested_.size(); ++i) nested_[i] = positive(random);
    matrix = {.format = format,
              .rows = rows,
              .columns = columns,
              .codes = codes_.data(),
              .scales = nested ? static_cast<const void*>(scale_codes_.data())
                               : static_cast<const void*>(scales_.data()),
              .nested = nested ? nested_.data() : nullptr,
              .offset = nested ? 0.25F : 0.0F};
  }
  PackedMatrix matrix;

 private:
  Guarded<std::uint8_t> codes_;
  Guarded<std::uint8_t> scale_codes_;
  Guarded<float> scales_;
  Guarded<float> nested_;
};

std::uint32_t bits(float value) { return std::bit_cast<std::uint32_t>(value); }
std::uint32_t bits(BFloat16 value) { return value.bits; }

template <class T>
void expect_elements(const PackedMatrix& matrix, const MatrixPiece& piece) {
  const std::int64_t stride = piece.columns + 3;
  Guarded<T> out(piece.rows * stride);
  unpack(matrix, piece, out.data(), dtype_of<T>(), stride);
  out.expect_guards_untouched();
  for (std::int64_t r = 0; r < piece.rows; ++r) {
    for (std::int64_t c = 0; c < piece.columns; ++c) {
      const T expected(matrix.element(piece.row + r, piece.column + c));
      ASSERT_EQ(bits(out[r * stride + c]), bits(expected))
          << piece.row + r << ", " << piece.column + c << ": " << out.at(r * stride + c) << " for "
          << static_cast<float>(expected);
    }
  }
}

TEST(Unpack, PiecesHaveTheBitsOfTheDefinition) {
  machine_isa();
  for (const PackedFormat format : {PackedFormat::nf4, PackedFormat::fp4, PackedFormat::int8}) {
    for (const bool nested : {false, true}) {
      if (nested && !is_four_bit(format)) continue;
      for (const std::int64_t columns : {128, 77, 33, 640}) {
        const Packed packed(format, 41, columns, nested);
        SCOPED_TRACE(fmt::format("{} of {} columns", name_of(format), columns));
        for (const MatrixPiece& piece :
             {MatrixPiece{0, 41, 0, columns}, MatrixPiece{3, 5, 1, 31}, MatrixPiece{40, 1, 0, 33},
              MatrixPiece{7, 9, 24, 9}, MatrixPiece{39, 2, columns - 1, 1}}) {
          expect_elements<BFloat16>(packed.matrix, piece);
          expect_elements<float>(packed.matrix, piece);
        }
      }
    }
  }
}

/// Products with a packed matrix are those with its unpacked elements, bit by bit.
template <class T>
void expect_same_product(Isa isa, const PackedMatrix& w, bool backward) {
  const std::int64_t m = 45;
  const std::int64_t n = backward ? w.columns : w.rows;
  const std::int64_t k = backward ? w.rows : w.columns;
  Guarded<T> x(m * k);
  fill_normal(x, 5);
  Guarded<T> dense(w.rows * w.columns);
  unpack(w, {0, w.rows, 0, w.columns}, dense.data(), dtype_of<T>(), w.columns);
  ThreadPool pool(2);
  const auto product = [&](const GemmMatrix& b, Guarded<T>& y) {
    GemmOutput output;
    output.data = y.data();
    output.dtype = dtype_of<T>();
    output.stride = n;
    const GemmShape shape{.m = m,
                          .n = n,
                          .k = k,
                          .a = dtype_of<T>(),
                          .b = dtype_of<T>(),
                          .b_packed = b.packed != nullptr};
    ScratchArea scratch(gemm_scratch(shape, isa, pool.threads()));
    gemm(m, n, k, {x.data(), dtype_of<T>(), k, true}, b, output, isa, scratch.span(), pool);
  };
  Guarded<T> packed(m * n);
  Guarded<T> plain(m * n);
  product({nullptr, dtype_of<T>(), 0, !backward, &w}, packed);
  product({dense.data(), dtype_of<T>(), w.columns, !backward}, plain);
  EXPECT_TRUE(packed.same_bits(plain));
}

TEST(Unpack, ProductsAreThoseOfTheUnpackedMatrix) {
  const Isa isa = machine_isa();
  for (const PackedFormat format : {PackedFormat::nf4, PackedFormat::int8}) {
    for (const auto& [rows, columns] : {std::pair{200, 1344}, std::pair{1027, 99}}) {
      const Packed packed(format, rows, columns, format == PackedFormat::nf4);
      for (const bool backward : {false, true}) {
        SCOPED_TRACE(fmt::format("{} {} x {} {}", name_of(format), rows, columns, backward));
        expect_same_product<BFloat16>(isa, packed.matrix, backward);
        expect_same_product<float>(isa, packed.matrix, backward);
      }
    }
  }
}

}  // namespace
}  // namespace snug::testing
