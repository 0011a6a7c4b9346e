#include "exec/host_windows.h"

#include <algorithm>

namespace snug {

std::span<std::byte> HostWindows::open(std::byte* address, std::int64_t bytes) {
  const auto size = static_cast<std::size_t>(bytes);
  const auto known = std::find_if(windows_.begin(), windows_.end(), [&](const Window& window) {
    return window.address == address && window.copy.size() == size;
  });
  if (known != windows_.end()) return known->copy;
  Window& window = windows_[next_];
  close(window);
  for (std::size_t age = kLargeWindows; age < kWindows; ++age) {
    Window& older = windows_[(next_ + kWindows - age) % kWindows];
    if (older.copy.size() <= kLarge) continue;
    close(older);
    older.copy = {};
  }
  next_ = (next_ + 1) % kWindows;
  window.copy.resize(size);
  window.address = address;
  device_.read(window.copy, address);
  return window.copy;
}

void HostWindows::close(Window& window) {
  if (window.address == nullptr) return;
  device_.write(window.address, window.copy);
  window.address = nullptr;
}

void HostWindows::flush() {
  for (Window& window : windows_) close(window);
  next_ = 0;
}

}  // namespace snug
