#include "core/heap.h"

#include <malloc.h>

#include <atomic>

namespace snug {
namespace {

constexpr int kHeaps = 2;
constexpr int kApartBytes = 1 << 20;
constexpr int kKeptFreeBytes = 1 << 20;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kWatched = true;
#else
constexpr bool kWatched = false;
#endif

/// As mallopt's own settings: one a process.
std::atomic<bool>& settled() {
  static std::atomic<bool> value = false;
  return value;
}

}  // namespace

void settle_heap() {
  mallopt(M_ARENA_MAX, kHeaps);
  mallopt(M_MMAP_THRESHOLD, kApartBytes);
  mallopt(M_TRIM_THRESHOLD, kKeptFreeBytes);
  settled() = !kWatched;
}

bool heap_is_settled() { return settled(); }

void give_back_free_heap() { malloc_trim(0); }

}  // namespace snug
