#pragma once
// Fixed tilings of loops over a thread pool, and Highway's choice of a target before them.

#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>

#include "core/thread_pool.h"

namespace snug {

/// Makes Highway choose its target, once, so that HWY_DYNAMIC_DISPATCH gives the final function.
inline void choose_target() {
  hwy::ChosenTarget& chosen = hwy::GetChosenTarget();
  if (!chosen.IsInitialized()) chosen.Update(hwy::SupportedTargets());
}

/// Calls body(begin, end, worker) for [0, count) cut into blocks of `block`, whatever the threads.
template <class Body>
void for_blocks(ThreadPool& pool, std::int64_t count, std::int64_t block, const Body& body) {
  pool.run((count + block - 1) / block, [&](std::int64_t index, int worker) {
    body(index * block, std::min(count, (index + 1) * block), worker);
  });
}

/// Rows in a block such that a block has about `elements` elements.
constexpr std::int64_t rows_per_block(std::int64_t width, std::int64_t elements = 16384) {
  return std::max<std::int64_t>(1, elements / std::max<std::int64_t>(1, width));
}

}  // namespace snug
