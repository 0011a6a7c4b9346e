#pragma once
// Values of a card's memory as the host sees them: copies, written back before the next program.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "backend/device.h"

namespace snug {

/// Keeps a few copies at a time: a span stays valid until flush() or until kWindows others have
/// been opened since, one of more than kLarge bytes until kLargeWindows have. Small buffers are
/// kept, so that opening what was open before allocates nothing.
class HostWindows {
 public:
  static constexpr std::size_t kWindows = 16;
  static constexpr std::size_t kLargeWindows = 4;
  static constexpr std::size_t kLarge = std::size_t{1} << 20;

  explicit HostWindows(Device& device) : device_(device) {}

  /// The bytes at `address` of the card. What the caller writes there reaches the card with
  /// flush().
  std::span<std::byte> open(std::byte* address, std::int64_t bytes);
  /// Writes all copies back and closes them.
  void flush();

 private:
  struct Window {
    std::byte* address = nullptr;  ///< nullptr: closed
    std::vector<std::byte> copy;
  };
  void close(Window& window);

  Device& device_;
  std::array<Window, kWindows> windows_;
  std::size_t next_ = 0;
};

}  // namespace snug
