#include "plan/placement.h"

#include <algorithm>
#include <array>
#include <bit>
#include <iterator>
#include <numeric>

#include "core/error.h"

namespace snug {
namespace {

enum class Fit : std::uint8_t { first, best };

/// A block with what the orders sort by. Sizes are aligned.
struct Item {
  std::int32_t begin;
  std::int32_t end;
  std::int64_t bytes;
  std::int64_t total;  ///< most bytes alive at an instant of its lifetime
  std::int32_t index;  ///< in the caller's list
};

/// The largest of any range of a sequence, in constant time.
class RangeMaximum {
 public:
  explicit RangeMaximum(std::vector<std::int64_t> values) {
    levels_.push_back(std::move(values));
    for (std::size_t width = 1; 2 * width <= levels_[0].size(); width *= 2) {
      const std::vector<std::int64_t>& below = levels_.back();
      std::vector<std::int64_t> level(below.size() - width);
      for (std::size_t i = 0; i < level.size(); ++i) {
        level[i] = std::max(below[i], below[i + width]);
      }
      levels_.push_back(std::move(level));
    }
  }
  /// Of positions first..last, both included.
  std::int64_t of(std::int32_t first, std::int32_t last) const {
    const auto length = static_cast<std::uint32_t>(last - first + 1);
    const auto level = static_cast<std::size_t>(std::bit_width(length) - 1);
    const std::vector<std::int64_t>& values = levels_[level];
    const auto width = std::size_t{1} << level;
    return std::max(values[static_cast<std::size_t>(first)],
                    values[static_cast<std::size_t>(last) + 1 - width]);
  }

 private:
  std::vector<std::vector<std::int64_t>> levels_;
};

/// The blocks placed so far, by address. Time is cut into chunks at four grains; each chunk lists
/// the blocks alive in it, so that a short block meets only those around it.
class Occupied {
 public:
  explicit Occupied(std::int32_t instants) {
    const int bits = std::bit_width(static_cast<std::uint32_t>(instants));
    for (int level = 0; level < kLevels; ++level) {
      shifts_[static_cast<std::size_t>(level)] = std::max(0, bits - kBitsPerLevel * level);
      lists_[static_cast<std::size_t>(level)].resize(
          (static_cast<std::size_t>(instants) >> shifts_[static_cast<std::size_t>(level)]) + 1);
    }
  }

  /// The lowest address (first fit) or the tightest gap (best fit) for `item`.
  std::int64_t find(const Item& item, Fit fit) const {
    std::int64_t cursor = 0;
    std::int64_t best = -1;
    std::int64_t best_gap = 0;
    for (const Entry& entry : around(item)) {
      if (entry.end < item.begin || entry.begin > item.end) continue;
      const std::int64_t gap = entry.low - cursor;
      if (gap >= item.bytes && (best < 0 || gap < best_gap)) {
        best = cursor;
        best_gap = gap;
        if (fit == Fit::first || gap == item.bytes) break;
      }
      cursor = std::max(cursor, entry.high);
    }
    return best < 0 ? cursor : best;
  }

  void insert(const Item& item, std::int64_t offset) {
    const Entry entry{offset, offset + item.bytes, item.begin, item.end};
    for (std::size_t level = 0; level < kLevels; ++level) {
      const int shift = shifts_[level];
      for (std::int32_t chunk = item.begin >> shift; chunk <= item.end >> shift; ++chunk) {
        std::vector<Entry>& list = lists_[level][static_cast<std::size_t>(chunk)];
        list.insert(std::upper_bound(list.begin(), list.end(), entry,
                                     [](const Entry& a, const Entry& b) { return a.low < b.low; }),
                    entry);
      }
    }
  }

 private:
  static constexpr int kLevels = 4;
  static constexpr int kBitsPerLevel = 3;
  struct Entry {
    std::int64_t low;
    std::int64_t high;
    std::int32_t begin;
    std::int32_t end;
  };

  const std::vector<Entry>& around(const Item& item) const {
    std::size_t level = kLevels - 1;
    while (item.begin >> shifts_[level] != item.end >> shifts_[level]) --level;
    return lists_[level][static_cast<std::size_t>(item.begin >> shifts_[level])];
  }

  std::array<int, kLevels> shifts_{};
  std::array<std::vector<std::vector<Entry>>, kLevels> lists_;
};

struct Order {
  std::string_view name;
  bool (*before)(const Item&, const Item&);
  Fit fit;
};

bool by_size_and_birth(const Item& a, const Item& b) {
  if (a.bytes != b.bytes) return a.bytes > b.bytes;
  if (a.begin != b.begin) return a.begin < b.begin;
  return a.index < b.index;
}

bool by_total_and_lifetime(const Item& a, const Item& b) {
  if (a.total != b.total) return a.total > b.total;
  const std::int32_t a_length = a.end - a.begin;
  const std::int32_t b_length = b.end - b.begin;
  if (a_length != b_length) return a_length > b_length;
  if (a.bytes != b.bytes) return a.bytes > b.bytes;
  return a.index < b.index;
}

bool by_magnitude_and_birth(const Item& a, const Item& b) {
  const int a_magnitude = std::bit_width(static_cast<std::uint64_t>(a.bytes));
  const int b_magnitude = std::bit_width(static_cast<std::uint64_t>(b.bytes));
  if (a_magnitude != b_magnitude) return a_magnitude > b_magnitude;
  if (a.begin != b.begin) return a.begin < b.begin;
  return a.index < b.index;
}

constexpr std::array<Order, 4> kPortfolio = {
    {{"total, lifetime, size; best fit", by_total_and_lifetime, Fit::best},
     {"size, birth; first fit", by_size_and_birth, Fit::first},
     {"log2 size, birth; first fit", by_magnitude_and_birth, Fit::first},
     {"size, birth; best fit", by_size_and_birth, Fit::best}}};

std::vector<std::int64_t> alive_bytes(std::span<const Item> items, std::int32_t instants) {
  std::vector<std::int64_t> alive(static_cast<std::size_t>(instants) + 1, 0);
  for (const Item& item : items) {
    alive[static_cast<std::size_t>(item.begin)] += item.bytes;
    alive[static_cast<std::size_t>(item.end) + 1] -= item.bytes;
  }
  std::partial_sum(alive.begin(), alive.end(), alive.begin());
  alive.pop_back();
  return alive;
}

std::vector<Item> items_of(std::span<const Block> blocks, std::int64_t alignment) {
  std::vector<Item> items;
  items.reserve(blocks.size());
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const Block& block = blocks[i];
    check(block.begin >= 0 && block.begin <= block.end && block.bytes >= 0,
          "block {} of {} bytes lives from {} to {}", i, block.bytes, block.begin, block.end);
    if (block.bytes == 0) continue;
    items.push_back({block.begin, block.end, align_up(block.bytes, alignment), 0,
                     static_cast<std::int32_t>(i)});
  }
  return items;
}

/// Tries orders and keeps the best placement.
class Search {
 public:
  Search(std::span<const Block> blocks, std::int64_t alignment)
      : items_(items_of(blocks, alignment)), offsets_(blocks.size(), 0) {
    best_.offsets = offsets_;
    for (const Item& item : items_) instants_ = std::max(instants_, item.end + 1);
    if (items_.empty()) return;
    const RangeMaximum totals(alive_bytes(items_, instants_));
    best_.lower_bound = totals.of(0, instants_ - 1);
    for (Item& item : items_) item.total = totals.of(item.begin, item.end);
  }

  bool done() const { return best_.peak == best_.lower_bound; }

  void try_order(const Order& order) {
    std::sort(items_.begin(), items_.end(), order.before);
    place_in_order(order);
  }

  /// Starts from `order` and lets the blocks that ended above the lower bound choose first, again
  /// and again.
  void repair(const Order& order) {
    try_order(order);
    const auto rounds =
        std::min<std::size_t>(kRepairs, kRepairedBlocks / std::max<std::size_t>(1, items_.size()));
    for (std::size_t round = 0; round < rounds && !done(); ++round) {
      promote_those_above_bound();
      place_in_order(order);
    }
  }

  Placement take() { return std::move(best_); }

 private:
  static constexpr std::size_t kRepairs = 16;
  static constexpr std::size_t kRepairedBlocks = 60'000;  // bounds the time of large plans

  void promote_those_above_bound() {
    const auto above = [&](const Item& item) {
      return offsets_[static_cast<std::size_t>(item.index)] + item.bytes > best_.lower_bound;
    };
    std::vector<Item> reordered;
    reordered.reserve(items_.size());
    std::copy_if(items_.begin(), items_.end(), std::back_inserter(reordered), above);
    std::remove_copy_if(items_.begin(), items_.end(), std::back_inserter(reordered), above);
    items_.swap(reordered);
  }

  void place_in_order(const Order& order) {
    Occupied occupied(instants_);
    std::int64_t peak = 0;
    for (const Item& item : items_) {
      const std::int64_t offset = occupied.find(item, order.fit);
      occupied.insert(item, offset);
      offsets_[static_cast<std::size_t>(item.index)] = offset;
      peak = std::max(peak, offset + item.bytes);
    }
    if (!best_.order.empty() && peak >= best_.peak) return;
    best_.peak = peak;
    best_.order = order.name;
    best_.offsets = offsets_;
  }

  std::vector<Item> items_;
  std::vector<std::int64_t> offsets_;
  std::int32_t instants_ = 0;
  Placement best_;
};

}  // namespace

Placement place(std::span<const Block> blocks, std::int64_t alignment) {
  Search search(blocks, alignment);
  for (const Order& order : kPortfolio) {
    if (search.done()) break;
    search.try_order(order);
  }
  if (!search.done()) search.repair(kPortfolio.front());
  return search.take();
}

}  // namespace snug
