#include "exec/allocations.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <new>

namespace {

std::atomic<std::int64_t> allocations{0};  // NOLINT: operator new has nowhere else to count

}  // namespace

[[gnu::noinline]] void* operator new(std::size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace snug {

std::int64_t allocation_count() { return allocations; }

TEST(Allocations, AreCounted) {
  const std::int64_t before = allocation_count();
  const auto number = std::make_unique<int>(before > 0 ? 1 : 2);
  EXPECT_GT(allocation_count(), before);
  EXPECT_NE(*number, 0);
}

}  // namespace snug
