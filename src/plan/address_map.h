#pragma once
// What is known about ranges of addresses of one arena, kept as disjoint segments.

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <span>
#include <utility>

namespace snug {

/// Every byte has a State; bytes never mentioned have State{}, or what they began with.
template <class State>
class AddressMap {
 public:
  struct Piece {
    std::int64_t low;
    std::int64_t high;
    State state;
  };

  AddressMap() = default;
  /// `beginning`: disjoint pieces by address, which must outlive the map.
  explicit AddressMap(std::span<const Piece> beginning) : beginning_(beginning) {}

  /// Calls visit(state) for each segment of [low, high), cut so that none reaches beyond.
  template <class Visit>
  void over(std::int64_t low, std::int64_t high, Visit&& visit) {
    if (low >= high) return;
    auto it = segments_.lower_bound(low);
    if (is(it, low, high)) {  // mostly
      visit(it->second.state);
      return;
    }
    split(low);
    split(high);
    it = segments_.lower_bound(low);
    while (low < high) {
      if (it == segments_.end() || it->first > low) {  // never mentioned
        const std::int64_t end = it == segments_.end() ? high : std::min(high, it->first);
        it = segments_.emplace_hint(it, low, first_of(low, end));
      }
      visit(it->second.state);
      low = it->second.end;
      ++it;
    }
  }

  /// Gives [low, high) one state.
  void assign(std::int64_t low, std::int64_t high, State state) {
    if (low >= high) return;
    if (const auto it = segments_.lower_bound(low); is(it, low, high)) {
      it->second.state = std::move(state);
      return;
    }
    split(low);
    split(high);
    segments_.erase(segments_.lower_bound(low), segments_.lower_bound(high));
    segments_.emplace(low, Segment{high, std::move(state)});
  }

  /// Calls visit(state, began) for each piece of the beginning that was mentioned since, or a part
  /// of it, with its state now and the one it began with.
  template <class Visit>
  void each_begun(Visit&& visit) const {
    auto piece = beginning_.begin();
    for (const auto& [low, segment] : segments_) {
      while (piece != beginning_.end() && piece->high <= low) ++piece;
      for (auto p = piece; p != beginning_.end() && p->low < segment.end; ++p) {
        visit(segment.state, p->state);
      }
    }
  }

 private:
  struct Segment {
    std::int64_t end;
    State state;
  };

  using Iterator = typename std::map<std::int64_t, Segment>::iterator;

  /// Whether one segment is just that range.
  bool is(Iterator it, std::int64_t low, std::int64_t high) const {
    return it != segments_.end() && it->first == low && it->second.end == high;
  }

  /// What was never mentioned of [low, high), from `low` as far as it is one.
  Segment first_of(std::int64_t low, std::int64_t high) const {
    const auto piece =
        std::partition_point(beginning_.begin(), beginning_.end(),
                             [&](const Piece& candidate) { return candidate.high <= low; });
    if (piece == beginning_.end() || piece->low >= high) return {high, State{}};
    if (piece->low > low) return {piece->low, State{}};
    return {std::min(high, piece->high), piece->state};
  }

  void split(std::int64_t address) {
    auto it = segments_.lower_bound(address);
    if (it == segments_.begin() || (it != segments_.end() && it->first == address)) return;
    it = std::prev(it);
    if (it->second.end <= address) return;
    segments_.emplace_hint(std::next(it), address, Segment{it->second.end, it->second.state});
    it->second.end = address;
  }

  std::span<const Piece> beginning_;
  std::map<std::int64_t, Segment> segments_;
};

}  // namespace snug
