#include "exec/allocations.h"

#include <gtest/gtest.h>
#include <malloc.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <new>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SNUG_OWN_HEAP 0
#elif defined(__has_feature)
#define SNUG_OWN_HEAP !(__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define SNUG_OWN_HEAP 1
#endif

// NOLINTBEGIN: the heap's functions have nowhere else to count, and glibc's own have these names.
namespace {

std::atomic<std::int64_t> news{0};
std::atomic<std::int64_t> calls{0};
std::atomic<std::int64_t> outstanding{0};
std::atomic<std::int64_t> live_bytes{0};
std::atomic<std::int64_t> peak_bytes{0};

}  // namespace

#if SNUG_OWN_HEAP
namespace {

void* given(void* block) {
  if (block == nullptr) return block;
  ++calls;
  ++outstanding;
  const auto bytes = static_cast<std::int64_t>(malloc_usable_size(block));
  const std::int64_t live = live_bytes += bytes;
  std::int64_t peak = peak_bytes;
  while (live > peak && !peak_bytes.compare_exchange_weak(peak, live)) {
  }
  return block;
}

void taken_back(void* block) {
  if (block == nullptr) return;
  --outstanding;
  live_bytes -= static_cast<std::int64_t>(malloc_usable_size(block));
}

}  // namespace

extern "C" {
void* __libc_malloc(std::size_t bytes);
void* __libc_calloc(std::size_t count, std::size_t bytes);
void* __libc_realloc(void* block, std::size_t bytes);
void* __libc_memalign(std::size_t alignment, std::size_t bytes);
void __libc_free(void* block);

void* malloc(std::size_t bytes) noexcept { return given(__libc_malloc(bytes)); }
void* calloc(std::size_t count, std::size_t bytes) noexcept {
  return given(__libc_calloc(count, bytes));
}
void* realloc(void* block, std::size_t bytes) noexcept {
  taken_back(block);
  return given(__libc_realloc(block, bytes));
}
void* memalign(std::size_t alignment, std::size_t bytes) noexcept {
  return given(__libc_memalign(alignment, bytes));
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) noexcept {
  return given(__libc_memalign(alignment, bytes));
}
int posix_memalign(void** block, std::size_t alignment, std::size_t bytes) noexcept {
  *block = given(__libc_memalign(alignment, bytes));
  return *block == nullptr ? ENOMEM : 0;
}
void free(void* block) noexcept {
  taken_back(block);
  __libc_free(block);
}
}
#endif

[[gnu::noinline]] void* operator new(std::size_t bytes) {
  ++news;
  if (void* memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
// NOLINTEND

namespace snug {

std::int64_t allocation_count() { return news; }

void watch_heap() { calls = outstanding = live_bytes = peak_bytes = 0; }
HeapUse heap_use() { return {calls, outstanding, peak_bytes}; }
bool heap_is_watched() { return SNUG_OWN_HEAP != 0; }

TEST(Allocations, AreCounted) {
  const std::int64_t before = allocation_count();
  const auto number = std::make_unique<int>(before > 0 ? 1 : 2);
  EXPECT_GT(allocation_count(), before);
  EXPECT_NE(*number, 0);
}

TEST(Allocations, OfTheHeapAreCounted) {
  if (!heap_is_watched()) GTEST_SKIP() << "a sanitizer has a heap of its own";
  watch_heap();
  std::unique_ptr<void, decltype(&std::free)> kept(std::malloc(3000), &std::free);
  {
    const std::unique_ptr<void, decltype(&std::free)> gone(std::calloc(10, 500), &std::free);
  }
  kept.reset(std::realloc(kept.release(), 4000));
  const HeapUse use = heap_use();
  EXPECT_EQ(use.calls, 3);
  EXPECT_EQ(use.outstanding, 1);
  EXPECT_GE(use.peak_bytes, 8000);
  EXPECT_LT(use.peak_bytes, 8200);
}

}  // namespace snug
