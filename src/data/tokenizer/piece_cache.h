#pragma once
// Remembers the tokens of short pieces that were met before.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace snug {

/// A direct-mapped table of fixed size: a piece takes the place of whatever was in its slot. Long
/// pieces and those of many tokens are not kept. For one thread.
class PieceCache {
 public:
  static constexpr size_t kLongest = 62;  // bytes of a piece
  static constexpr size_t kMostIds = 16;

  PieceCache() : slots_(kSlots) {}

  /// The ids of a piece (never empty text), if they are here. Valid until the next `store`.
  std::optional<std::span<const int32_t>> find(std::string_view piece) const {
    if (piece.size() > kLongest) return std::nullopt;
    const Slot& slot = slots_[slot_of(piece)];
    if (slot.size != piece.size() || std::memcmp(slot.text, piece.data(), piece.size()) != 0) {
      return std::nullopt;
    }
    return std::span(slot.ids, slot.count);
  }

  void store(std::string_view piece, std::span<const int32_t> ids) {
    if (piece.size() > kLongest || ids.size() > kMostIds) return;
    Slot& slot = slots_[slot_of(piece)];
    slot.size = static_cast<uint8_t>(piece.size());
    slot.count = static_cast<uint8_t>(ids.size());
    std::memcpy(slot.text, piece.data(), piece.size());
    std::ranges::copy(ids, slot.ids);
  }

 private:
  static constexpr size_t kSlots = size_t{1} << 15;  // 4 MiB
  struct Slot {
    uint8_t size = 0;  // 0: free
    uint8_t count = 0;
    char text[kLongest];
    int32_t ids[kMostIds];
  };

  static size_t slot_of(std::string_view piece) {
    return std::hash<std::string_view>{}(piece) & (kSlots - 1);
  }

  std::vector<Slot> slots_;
};

}  // namespace snug
