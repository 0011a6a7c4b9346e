#pragma once
// What the fuzzers share. A parser may answer bad input with a UserError and with nothing else.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "core/error.h"

namespace snug {

/// Runs `body`; true when it returned, false when it threw a UserError. Other exceptions end the
/// fuzzer.
template <class Body>
bool accepted(Body body) {
  try {
    body();
    return true;
  } catch (const UserError&) {
    return false;
  }
}

/// Ends the fuzzer unless `condition` holds.
inline void require(bool condition) {
  if (!condition) std::abort();
}

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

}  // namespace snug
