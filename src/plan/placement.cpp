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

/// Disjoint ranges of addresses by address; ranges that meet are one.
class Ranges {
 public:
  struct Range {
    std::int64_t low;
    std::int64_t high;
  };

  void add(std::int64_t low, std::int64_t high) {
    // Those from `first` to before `last` meet [low, high).
    const auto first = std::partition_point(list_.begin(), list_.end(),
                                            [&](const Range& range) { return range.high < low; });
    auto last = first;
    while (last != list_.end() && last->low <= high) ++last;
    if (first == last) {
      list_.insert(first, {low, high});
      return;
    }
    first->low = std::min(first->low, low);
    first->high = std::max(std::prev(last)->high, high);
    list_.erase(std::next(first), last);
  }
  void clear() { list_.clear(); }
  std::span<const Range> list() const { return list_; }

 private:
  std::vector<Range> list_;
};

}  // namespace

/// The addresses taken so far, in a tree over time: a tree node halves the instants of the one
/// above it. A block's range is kept where the block covers a node's instants but not those of the
/// node above. What lies close together is one range, so that the cost of a block does not grow
/// with the number of blocks it meets.
class PlacementTree {
 public:
  /// Empties it, for so many instants.
  void clear(std::int32_t instants) {
    leaves_ = std::bit_ceil(static_cast<std::uint32_t>(std::max(1, instants)));
    const std::size_t nodes = std::size_t{2} * leaves_;
    whole_.resize(std::max(whole_.size(), nodes));
    any_.resize(whole_.size());
    for (std::size_t node = 0; node < nodes; ++node) {
      whole_[node].clear();
      any_[node].clear();
    }
  }

  /// The lowest address (first fit) or the tightest gap (best fit) for `item`.
  std::int64_t find(const Item& item, Fit fit) {
    taken_.clear();
    collect(1, 0, leaves_, span_of(item));
    std::sort(taken_.begin(), taken_.end(),
              [](const Ranges::Range& a, const Ranges::Range& b) { return a.low < b.low; });
    std::int64_t cursor = 0;
    std::int64_t best = -1;
    std::int64_t best_gap = 0;
    for (const Ranges::Range& range : taken_) {
      const std::int64_t gap = range.low - cursor;
      if (gap >= item.bytes && (best < 0 || gap < best_gap)) {
        best = cursor;
        best_gap = gap;
        if (fit == Fit::first || gap == item.bytes) break;
      }
      cursor = std::max(cursor, range.high);
    }
    return best < 0 ? cursor : best;
  }

  void insert(const Item& item, std::int64_t offset) {
    insert(1, 0, leaves_, span_of(item), {offset, offset + item.bytes});
  }

 private:
  /// Instants, the last one excluded.
  struct Span {
    std::uint32_t begin;
    std::uint32_t end;
  };
  static Span span_of(const Item& item) {
    return {static_cast<std::uint32_t>(item.begin), static_cast<std::uint32_t>(item.end) + 1};
  }

  /// The ranges that meet `span` within the node of the instants begin..end - 1.
  void collect(std::size_t node, std::uint32_t begin, std::uint32_t end, Span span) {
    const bool inside = span.begin <= begin && end <= span.end;
    const std::span<const Ranges::Range> found = (inside ? any_ : whole_)[node].list();
    taken_.insert(taken_.end(), found.begin(), found.end());
    if (inside) return;
    const std::uint32_t middle = begin + (end - begin) / 2;
    if (span.begin < middle) collect(2 * node, begin, middle, span);
    if (span.end > middle) collect(2 * node + 1, middle, end, span);
  }

  void insert(std::size_t node, std::uint32_t begin, std::uint32_t end, Span span,
              Ranges::Range range) {
    any_[node].add(range.low, range.high);
    if (span.begin <= begin && end <= span.end) {
      whole_[node].add(range.low, range.high);
      return;
    }
    const std::uint32_t middle = begin + (end - begin) / 2;
    if (span.begin < middle) insert(2 * node, begin, middle, span, range);
    if (span.end > middle) insert(2 * node + 1, middle, end, span, range);
  }

  std::uint32_t leaves_ = 1;
  std::vector<Ranges> whole_;  ///< of blocks that cover all instants of a tree node
  std::vector<Ranges> any_;    ///< of blocks that cover some, where they reached it
  std::vector<Ranges::Range> taken_;
};

namespace {

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

/// `fixed`, then `blocks`; those of no bytes are left out.
std::vector<Item> items_of(std::span<const Block> blocks, std::span<const FixedBlock> fixed,
                           std::int64_t alignment) {
  std::vector<Item> items;
  items.reserve(blocks.size() + fixed.size());
  const auto add = [&](const Block& block, std::size_t index) {
    check(block.begin >= 0 && block.begin <= block.end && block.bytes >= 0,
          "block {} of {} bytes lives from {} to {}", index, block.bytes, block.begin, block.end);
    if (block.bytes == 0) return;
    items.push_back({block.begin, block.end, align_up(block.bytes, alignment), 0,
                     static_cast<std::int32_t>(index)});
  };
  for (std::size_t i = 0; i < fixed.size(); ++i) add(fixed[i].block, i);
  for (std::size_t i = 0; i < blocks.size(); ++i) add(blocks[i], i);
  return items;
}

/// Counts time by the instants at which a block begins: blocks that live together do so at one of
/// them. The number of such instants.
std::int32_t compress_time(std::span<Item> items) {
  std::int32_t last = -1;
  for (const Item& item : items) last = std::max(last, item.end);
  std::vector<std::int32_t> known(static_cast<std::size_t>(last) + 1, 0);
  for (const Item& item : items) known[static_cast<std::size_t>(item.begin)] = 1;
  std::partial_sum(known.begin(), known.end(), known.begin());
  for (Item& item : items) {
    item.begin = known[static_cast<std::size_t>(item.begin)] - 1;
    item.end = known[static_cast<std::size_t>(item.end)] - 1;
  }
  return known.empty() ? 0 : known.back();
}

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

/// Tries orders and keeps the best placement.
class Search {
 public:
  Search(PlacementTree& tree, std::span<const Block> blocks, const PlaceOptions& options)
      : items_(items_of(blocks, options.fixed, options.alignment)),
        instants_(compress_time(items_)),
        offsets_(blocks.size(), 0),
        occupied_(tree) {
    best_.offsets = offsets_;
    if (items_.empty()) return;
    const RangeMaximum totals(alive_bytes(items_, instants_));
    best_.lower_bound = totals.of(0, instants_ - 1);
    enough_ = std::max(options.enough, best_.lower_bound);
    for (Item& item : items_) item.total = totals.of(item.begin, item.end);
    take_out_fixed(options.fixed);
  }

  bool done() const { return !best_.order.empty() && best_.peak <= enough_; }

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

  /// Moves the fixed items out of the list.
  void take_out_fixed(std::span<const FixedBlock> fixed) {
    std::size_t count = 0;
    for (const FixedBlock& block : fixed) {
      if (block.block.bytes == 0) continue;
      fixed_.emplace_back(items_[count++], block.offset);
      best_.peak = std::max(best_.peak, block.offset + fixed_.back().first.bytes);
    }
    floor_ = best_.peak;
    items_.erase(items_.begin(), items_.begin() + static_cast<std::ptrdiff_t>(count));
  }

  void promote_those_above_bound() {
    const auto above = [&](const Item& item) {
      return offsets_[static_cast<std::size_t>(item.index)] + item.bytes > enough_;
    };
    std::vector<Item> reordered;
    reordered.reserve(items_.size());
    std::copy_if(items_.begin(), items_.end(), std::back_inserter(reordered), above);
    std::remove_copy_if(items_.begin(), items_.end(), std::back_inserter(reordered), above);
    items_.swap(reordered);
  }

  void place_in_order(const Order& order) {
    occupied_.clear(instants_);
    for (const auto& [item, offset] : fixed_) occupied_.insert(item, offset);
    std::int64_t peak = floor_;
    for (const Item& item : items_) {
      const std::int64_t offset = occupied_.find(item, order.fit);
      occupied_.insert(item, offset);
      offsets_[static_cast<std::size_t>(item.index)] = offset;
      peak = std::max(peak, offset + item.bytes);
    }
    if (!best_.order.empty() && peak >= best_.peak) return;
    best_.peak = peak;
    best_.order = order.name;
    best_.offsets = offsets_;
  }

  std::vector<Item> items_;
  std::int32_t instants_;
  std::vector<std::int64_t> offsets_;
  PlacementTree& occupied_;
  std::vector<std::pair<Item, std::int64_t>> fixed_;
  std::int64_t floor_ = 0;   ///< highest address of what is fixed
  std::int64_t enough_ = 0;  ///< a peak that ends the search
  Placement best_;
};

}  // namespace

std::int64_t most_alive(std::span<const Block> blocks, const PlaceOptions& options) {
  std::vector<Item> items = items_of(blocks, options.fixed, options.alignment);
  const std::vector<std::int64_t> alive = alive_bytes(items, compress_time(items));
  return alive.empty() ? 0 : *std::max_element(alive.begin(), alive.end());
}

Placer::Placer() : tree_(std::make_unique<PlacementTree>()) {}
Placer::~Placer() = default;

Placement Placer::place(std::span<const Block> blocks, const PlaceOptions& options) {
  Search search(*tree_, blocks, options);
  if (blocks.empty()) return search.take();
  for (const Order& order : kPortfolio) {
    if (search.done()) break;
    search.try_order(order);
  }
  if (!search.done()) search.repair(kPortfolio.front());
  return search.take();
}

Placement place(std::span<const Block> blocks, const PlaceOptions& options) {
  return Placer().place(blocks, options);
}

}  // namespace snug
