#pragma once
// What is known about ranges of addresses of one arena, kept as disjoint segments.

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <utility>

namespace snug {

/// Every byte has a State; bytes never mentioned have State{}.
template <class State>
class AddressMap {
 public:
  /// Calls visit(state) for each segment of [low, high), cut so that none reaches beyond.
  template <class Visit>
  void over(std::int64_t low, std::int64_t high, Visit&& visit) {
    if (low >= high) return;
    split(low);
    split(high);
    auto it = segments_.lower_bound(low);
    while (low < high) {
      if (it == segments_.end() || it->first > low) {  // never mentioned
        const std::int64_t end = it == segments_.end() ? high : std::min(high, it->first);
        it = segments_.emplace_hint(it, low, Segment{end, State{}});
      }
      visit(it->second.state);
      low = it->second.end;
      ++it;
    }
  }

  /// Gives [low, high) one state.
  void assign(std::int64_t low, std::int64_t high, State state) {
    if (low >= high) return;
    split(low);
    split(high);
    segments_.erase(segments_.lower_bound(low), segments_.lower_bound(high));
    segments_.emplace(low, Segment{high, std::move(state)});
  }

 private:
  struct Segment {
    std::int64_t end;
    State state;
  };

  void split(std::int64_t address) {
    auto it = segments_.lower_bound(address);
    if (it == segments_.begin() || (it != segments_.end() && it->first == address)) return;
    it = std::prev(it);
    if (it->second.end <= address) return;
    segments_.emplace_hint(std::next(it), address, Segment{it->second.end, it->second.state});
    it->second.end = address;
  }

  std::map<std::int64_t, Segment> segments_;
};

}  // namespace snug
