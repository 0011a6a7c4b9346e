#pragma once
// Offsets for blocks of known size and lifetime: the one place where memory is "allocated".

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace snug {

/// Bytes needed over the instants begin..end, both included.
struct Block {
  std::int32_t begin = 0;  ///< at least 0
  std::int32_t end = 0;
  std::int64_t bytes = 0;
};

/// A block whose place is given.
struct FixedBlock {
  Block block;
  std::int64_t offset = 0;  ///< a multiple of the alignment
};

struct PlaceOptions {
  std::int64_t alignment = 1;
  std::span<const FixedBlock> fixed = {};  ///< do not overlap
  std::int64_t enough = 0;                 ///< a peak below which nothing is gained
};

struct Placement {
  std::vector<std::int64_t> offsets;  ///< one a block, multiples of the alignment
  std::int64_t peak = 0;              ///< highest address in use at any instant
  std::int64_t lower_bound = 0;       ///< most bytes alive at one instant: no placement is below it
  std::string_view order;             ///< the order of the portfolio that won
};

class PlacementTree;

/// Places blocks, of one list after another: what it works with is kept from call to call.
class Placer {
 public:
  Placer();
  ~Placer();
  Placer(const Placer&) = delete;
  Placer& operator=(const Placer&) = delete;

  /// place() below.
  Placement place(std::span<const Block> blocks, const PlaceOptions& options);

 private:
  std::unique_ptr<PlacementTree> tree_;
};

/// Places each block so that blocks alive at the same instant, fixed ones too, never overlap. Tries
/// four greedy orders, then repairs the first; stops when the lower bound or `enough` is reached,
/// else keeps the best. Sizes count as multiples of the alignment. The result depends on the
/// arguments alone. Time grows as the number of blocks times its logarithm.
Placement place(std::span<const Block> blocks, const PlaceOptions& options);

/// The lower bound that place() would give.
std::int64_t most_alive(std::span<const Block> blocks, const PlaceOptions& options);

/// `bytes` rounded up to a multiple of `alignment`.
constexpr std::int64_t align_up(std::int64_t bytes, std::int64_t alignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}

}  // namespace snug
