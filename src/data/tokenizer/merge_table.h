#pragma once
// Which two neighbouring tokens become which one, and how soon: a flat hash table.

#include <bit>
#include <cstdint>
#include <vector>

namespace snug {

/// Pairs of token ids to their merge. Open addressing, at most two thirds full.
class MergeTable {
 public:
  struct Merge {
    int32_t rank;  // lowest first
    int32_t id;    // what the pair becomes
  };

  explicit MergeTable(size_t merges = 0)
      : slots_(std::bit_ceil(merges + merges / 2 + 1)),
        shift_(64 - std::countr_zero(slots_.size())) {}

  /// A pair that is there already gets the later merge.
  void insert(int32_t left, int32_t right, Merge merge) {
    slots_[slot_of(key_of(left, right))] = {key_of(left, right), merge};
  }

  /// Null when the pair does not merge.
  const Merge* find(int32_t left, int32_t right) const {
    const Slot& slot = slots_[slot_of(key_of(left, right))];
    return slot.key == kFree ? nullptr : &slot.merge;
  }

 private:
  static constexpr uint64_t kFree = ~uint64_t{0};
  struct Slot {
    uint64_t key = kFree;
    Merge merge{};
  };

  static uint64_t key_of(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }

  // The slot that holds `key`, or the free one where it belongs.
  size_t slot_of(uint64_t key) const {
    const uint64_t mixed = (key ^ key >> 29) * 0x9E3779B97F4A7C15ULL;
    size_t at = shift_ == 64 ? 0 : mixed >> shift_;
    while (slots_[at].key != key && slots_[at].key != kFree) at = (at + 1) & (slots_.size() - 1);
    return at;
  }

  std::vector<Slot> slots_;
  int shift_;
};

}  // namespace snug
