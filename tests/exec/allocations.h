#pragma once
// Counts what this executable asks the heap for: operator new, and malloc and its relatives, which
// libraries call.

#include <cstdint>

namespace snug {

/// Calls of operator new so far, on all threads.
std::int64_t allocation_count();

/// What malloc, calloc, realloc, posix_memalign, aligned_alloc and free were asked for since
/// watch_heap(), on all threads. All zero under a sanitizer, which has a heap of its own.
struct HeapUse {
  std::int64_t calls = 0;        ///< that gave memory
  std::int64_t outstanding = 0;  ///< blocks given less blocks taken back
  std::int64_t peak_bytes = 0;   ///< given and not taken back at one time
};

void watch_heap();
HeapUse heap_use();
/// Whether heap_use() sees anything.
bool heap_is_watched();

}  // namespace snug
