// The loops around the register tile. Work is shared out in tiles of C. A worker packs the B panels
// of its tile into room of its own, where they stay in its cache for all tiles of the same columns.
// A's panels are packed by all workers beforehand, or, where that is a copy, by each tile.
// A sum runs over k in order, whatever the chunks, tiles and threads are.

#include "backend/cpu/gemm.h"

#include <algorithm>

#include "backend/cpu/gemm_blocks.h"
#include "backend/cpu/gemm_engine.h"
#include "backend/cpu/unpack.h"
#include "core/error.h"

namespace snug {
namespace {

constexpr std::int64_t kMinTileCols = 64;
constexpr std::int64_t kTilesPerThread = 4;

struct Range {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t size() const { return end - begin; }
};

// The i-th of equal pieces, the last one shorter.
Range piece(std::int64_t i, std::int64_t size, std::int64_t total) {
  return {i * size, std::min(total, (i + 1) * size)};
}

bool on_amx(const GemmShape& shape, Isa isa) {
  return shape.a == DType::bf16 && shape.b == DType::bf16 && isa == Isa::amx;
}

GemmLayout layout_of(const GemmShape& shape, Isa isa) {
  return on_amx(shape, isa) ? amx_layout() : f32_layout(isa);
}

class Product {
 public:
  Product(const GemmShape& shape, const GemmMatrix& a, const GemmMatrix& b,
          const GemmOutput& output, const GemmEngine& engine, std::byte* scratch, ThreadPool& pool)
      : shape_(shape),
        a_(a),
        b_(b),
        output_(output),
        engine_(engine),
        layout_(engine.layout),
        blocks_(cut_product(shape, engine.layout)),
        pool_(pool),
        packed_a_(scratch),
        chunk_sums_(reinterpret_cast<float*>(packed_a_ + blocks_.a_bytes)),
        rooms_(packed_a_ + blocks_.a_bytes + blocks_.chunk_sums_bytes) {}

  void run() {
    for (std::int64_t m = 0; m < shape_.m; m += blocks_.chunk_m) {
      rows_ = {m, std::min(shape_.m, m + blocks_.chunk_m)};
      for (std::int64_t n = 0; n < shape_.n; n += blocks_.chunk_n) {
        cols_ = {n, std::min(shape_.n, n + blocks_.chunk_n)};
        std::int64_t k = 0;
        do {
          ks_ = {k, std::min(shape_.k, k + blocks_.chunk_k)};
          if (!blocks_.late_a && (n == 0 || blocks_.adds_chunks)) pack_a();
          multiply();
          k = ks_.end;
        } while (k < shape_.k);
      }
    }
  }

 private:
  // Packs A's chunk. Where rows are not contiguous in k, all panels advance together along k.
  void pack_a() {
    const std::int64_t panels = ceil_div(rows_.size(), layout_.mr);
    const std::int64_t k_piece = a_.k_contiguous ? ks_.size() : 64;
    const std::int64_t count = a_.k_contiguous ? panels : ceil_div(ks_.size(), k_piece);
    pool_.run(count, [&](std::int64_t i, int) {
      const Range ks = a_.k_contiguous ? Range{0, ks_.size()} : piece(i, k_piece, ks_.size());
      const Range some = a_.k_contiguous ? Range{i, i + 1} : Range{0, panels};
      for (std::int64_t p = some.begin; p < some.end; ++p) {
        const Range rows = piece(p, layout_.mr, rows_.size());
        engine_.pack_a(
            a_, rows_.begin + rows.begin, rows.size(), ks_.begin + ks.begin, ks.size(),
            packed_a_ + panel_bytes(layout_.mr, chunk_k()) * p + panel_bytes(layout_.mr, ks.begin));
      }
    });
  }

  // Columns are shared out when packing B costs more than packing A again for each share of them;
  // else tiles are.
  void multiply() {
    const int threads = pool_.threads();
    const bool wide = cols_.size() >= threads * kMinTileCols;
    const bool b_is_dear =
        blocks_.late_a ? rows_.size() <= cols_.size() : 2 * rows_.size() <= cols_.size();
    if (threads > 1 && wide && (b_is_dear || b_.packed != nullptr)) {
      multiply_columns();
    } else {
      multiply_tiles();
    }
  }

  // Each worker takes columns, as many shares as threads or a multiple, and visits all rows.
  void multiply_columns() {
    const std::int64_t threads = pool_.threads();
    const std::int64_t shares = round_up(ceil_div(cols_.size(), blocks_.tile_n), threads);
    const std::int64_t tile_n = round_up(ceil_div(cols_.size(), shares), layout_.nr);
    pool_.run(ceil_div(cols_.size(), tile_n), [&](std::int64_t i, int worker) {
      const Room own = room(worker);
      const Range cols = piece(i, tile_n, cols_.size());
      pack_b(cols, own);
      if (engine_.begin != nullptr) engine_.begin();
      for (std::int64_t t = 0; t < ceil_div(rows_.size(), blocks_.tile_m); ++t) {
        multiply_tile(piece(t, blocks_.tile_m, rows_.size()), cols, own);
      }
      if (engine_.end != nullptr) engine_.end();
    });
  }

  // All tiles of the chunk, those of the same columns one after the other; smaller ones when there
  // are too few to keep every thread busy.
  void multiply_tiles() {
    std::int64_t tile_m = blocks_.tile_m;
    std::int64_t tile_n = blocks_.tile_n;
    const auto tiles = [&] {
      return ceil_div(rows_.size(), tile_m) * ceil_div(cols_.size(), tile_n);
    };
    const std::int64_t wanted = pool_.threads() == 1 ? 1 : kTilesPerThread * pool_.threads();
    if (tiles() < wanted) tile_m = round_up(tile_m / 2, layout_.mr);
    while (tiles() < wanted && tile_n > kMinTileCols) tile_n = round_up(tile_n / 2, layout_.nr);
    for (int worker = 0; worker < pool_.threads(); ++worker) room(worker).mark() = -1;
    const std::int64_t tall = ceil_div(rows_.size(), tile_m);
    pool_.run(tiles(), [&](std::int64_t i, int worker) {
      const Room own = room(worker);
      const Range cols = piece(i / tall, tile_n, cols_.size());
      if (own.mark() != i / tall) pack_b(cols, own);
      own.mark() = i / tall;
      if (engine_.begin != nullptr) engine_.begin();
      multiply_tile(piece(i % tall, tile_m, rows_.size()), cols, own);
      if (engine_.end != nullptr) engine_.end();
    });
  }

  // A worker's scratch.
  struct Room {
    std::byte* base;
    std::byte* b;
    std::byte* a;
    std::byte* unpacked;
    float* sums;
    // Which columns' B panels lie in `b`.
    std::int64_t& mark() const { return *reinterpret_cast<std::int64_t*>(base); }
  };

  Room room(int worker) const {
    std::byte* const base = rooms_ + worker * blocks_.own_bytes();
    std::byte* const b = base + kGemmAlignment;
    std::byte* const a = b + blocks_.own_b_bytes;
    std::byte* const unpacked = a + blocks_.own_a_bytes;
    return {base, b, a, unpacked, reinterpret_cast<float*>(unpacked + blocks_.own_unpacked_bytes)};
  }

  void pack_b(Range cols, const Room& own) const {
    const std::int64_t panels = ceil_div(cols.size(), layout_.nr);
    std::int64_t k_piece = 64;
    if (b_.k_contiguous) k_piece = std::max<std::int64_t>(1, ks_.size());
    if (b_.packed != nullptr) k_piece = kUnpackedK;
    for (std::int64_t k = 0; k < ks_.size(); k += k_piece) {
      for (std::int64_t p = 0; p < panels; ++p) {
        const Range panel = piece(p, layout_.nr, cols.size());
        std::byte* const to =
            own.b + panel_bytes(layout_.nr, chunk_k()) * p + panel_bytes(layout_.nr, k);
        pack_b_panel({cols_.begin + cols.begin + panel.begin, cols_.begin + cols.begin + panel.end},
                     {ks_.begin + k, ks_.begin + std::min(k + k_piece, ks_.size())}, own.unpacked,
                     to);
      }
    }
  }

  // A packed B is unpacked first, as a small matrix that stays in the nearest cache.
  void pack_b_panel(Range cols, Range ks, std::byte* unpacked, std::byte* to) const {
    if (b_.packed == nullptr) {
      engine_.pack_b(b_, cols.begin, cols.size(), ks.begin, ks.size(), to);
      return;
    }
    GemmMatrix piece{unpacked, b_.dtype, b_.k_contiguous ? ks.size() : cols.size(),
                     b_.k_contiguous};
    const Range rows = b_.k_contiguous ? cols : ks;
    const Range columns = b_.k_contiguous ? ks : cols;
    unpack(*b_.packed, {rows.begin, rows.size(), columns.begin, columns.size()}, unpacked, b_.dtype,
           piece.stride);
    engine_.pack_b(piece, 0, cols.size(), 0, ks.size(), to);
  }

  // Where a tile's sums go: all of them collected, or one register tile at a time.
  struct Sums {
    float* data;
    std::int64_t width;
    bool collected;
  };

  Sums sums_of(Range rows, Range cols, const Room& own) const {
    if (blocks_.adds_chunks) {
      const std::int64_t width = blocks_.chunk_n;
      return {chunk_sums_ + rows.begin * width + cols.begin, width, true};
    }
    if (blocks_.collects) return {own.sums, round_up(cols.size(), layout_.nr), true};
    return {own.sums, layout_.nr, false};
  }

  void multiply_tile(Range rows, Range cols, const Room& own) const {
    const Sums sums = sums_of(rows, cols, own);
    const std::int64_t block = equal_piece(chunk_k(), layout_.k_block, layout_.k_step);
    for (std::int64_t k = 0; k == 0 || k < chunk_k(); k += block) {
      multiply_block(rows, cols, {k, std::min(chunk_k(), k + block)}, own, sums);
    }
    const bool last_chunk = ks_.end == shape_.k;
    if (sums.collected && last_chunk) store(rows, cols, sums);
  }

  // Adds one block of k to a tile. The panel that is packed late, or read most, is the outer one.
  void multiply_block(Range rows, Range cols, Range ks, const Room& own, const Sums& sums) const {
    const auto panel_rows = [&](std::int64_t row) {
      return Range{row, std::min(rows.end, row + layout_.mr)};
    };
    const auto multiply_panels = [&](const std::byte* a, std::int64_t row, std::int64_t col) {
      const std::byte* const b =
          own.b + panel_bytes(layout_.nr, chunk_k()) * ((col - cols.begin) / layout_.nr) +
          panel_bytes(layout_.nr, ks.begin);
      float* c = sums.data;
      if (sums.collected) c += (row - rows.begin) * sums.width + col - cols.begin;
      const bool add = ks_.begin > 0 || ks.begin > 0;
      if (output_.accumulate) fetch_output(panel_rows(row), col);
      engine_.micro(a, b, ks.size() / layout_.k_step, c, sums.width, add);
      if (!sums.collected) {
        store(panel_rows(row), {col, std::min(cols.end, col + layout_.nr)}, sums);
      }
    };
    if (blocks_.late_a) {
      for (std::int64_t row = rows.begin; row < rows.end; row += layout_.mr) {
        late_pack_a(panel_rows(row), ks, own.a);
        for (std::int64_t col = cols.begin; col < cols.end; col += layout_.nr) {
          multiply_panels(own.a, row, col);
        }
      }
      return;
    }
    for (std::int64_t col = cols.begin; col < cols.end; col += layout_.nr) {
      for (std::int64_t row = rows.begin; row < rows.end; row += layout_.mr) {
        multiply_panels(packed_a_ + panel_bytes(layout_.mr, chunk_k()) * (row / layout_.mr) +
                            panel_bytes(layout_.mr, ks.begin),
                        row, col);
      }
    }
  }

  // Asks for the output of a register tile, which is read when its sums are stored.
  void fetch_output(Range rows, std::int64_t col) const {
    const std::int64_t size = size_of(output_.dtype);
    for (std::int64_t row = rows.begin; row < rows.end; ++row) {
      const std::int64_t element = (rows_.begin + row) * output_.stride + cols_.begin + col;
      __builtin_prefetch(static_cast<const std::byte*>(output_.data) + element * size, 1, 2);
    }
  }

  void late_pack_a(Range rows, Range ks, std::byte* to) const {
    const std::int64_t count = std::min(ks.size(), ks_.size() - ks.begin);
    engine_.pack_a(a_, rows_.begin + rows.begin, rows.size(), ks_.begin + ks.begin, count, to);
  }

  void store(Range rows, Range cols, const Sums& sums) const {
    engine_.store(output_, sums.data, sums.width, rows_.begin + rows.begin,
                  cols_.begin + cols.begin, rows.size(), cols.size());
  }

  // k of the present chunk with the panels' padding.
  std::int64_t chunk_k() const { return round_up(ks_.size(), layout_.k_step); }
  std::int64_t panel_bytes(std::int64_t rows, std::int64_t k) const {
    return rows * k * layout_.element_bytes;
  }

  const GemmShape shape_;
  const GemmMatrix& a_;
  const GemmMatrix& b_;
  const GemmOutput& output_;
  const GemmEngine& engine_;
  const GemmLayout& layout_;
  const GemmBlocks blocks_;
  ThreadPool& pool_;
  std::byte* const packed_a_;
  float* const chunk_sums_;
  std::byte* const rooms_;
  Range rows_;  // the present chunk
  Range cols_;
  Range ks_;
};

void check_operands(const GemmShape& shape, const GemmOutput& output) {
  const auto stored = [](DType type) { return type == DType::bf16 || type == DType::f32; };
  check(shape.m >= 0 && shape.n >= 0 && shape.k >= 0, "a product of {} x {} x {}", shape.m, shape.n,
        shape.k);
  check(stored(shape.a) && stored(shape.b) && stored(output.dtype) && stored(output.bias_dtype),
        "a product takes bf16 and f32");
  check(!output.rounding || output.dtype == DType::bf16, "stochastic rounding is to bf16");
}

}  // namespace

std::int64_t gemm_scratch(const GemmShape& shape, Isa isa, int threads) {
  return cut_product(shape, layout_of(shape, isa)).bytes(threads);
}

void gemm(std::int64_t m, std::int64_t n, std::int64_t k, const GemmMatrix& a, const GemmMatrix& b,
          const GemmOutput& output, Isa isa, std::span<std::byte> scratch, ThreadPool& pool) {
  const GemmShape shape{.m = m,
                        .n = n,
                        .k = k,
                        .a = a.dtype,
                        .b = b.dtype,
                        .a_k_contiguous = a.k_contiguous,
                        .rounding = output.rounding.has_value(),
                        .b_packed = b.packed != nullptr};
  check_operands(shape, output);
  if (m == 0 || n == 0) return;
  const GemmEngine engine = on_amx(shape, isa) ? amx_engine() : f32_engine();
  check(engine.layout == layout_of(shape, isa), "Highway dispatches to another set than {}",
        name_of(isa));
  const std::int64_t needed = gemm_scratch(shape, isa, pool.threads());
  check(static_cast<std::int64_t>(scratch.size()) >= needed, "{} bytes of scratch, {} needed",
        scratch.size(), needed);
  Product(shape, a, b, output, engine, scratch.data(), pool).run();
}

}  // namespace snug
