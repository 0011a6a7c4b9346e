#pragma once
// Counts the calls of operator new in this executable.

#include <cstdint>

namespace snug {

/// Calls so far, on all threads.
std::int64_t allocation_count();

}  // namespace snug
