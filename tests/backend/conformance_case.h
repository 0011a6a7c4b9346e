#pragma once
// What a case of the conformance suite is.

#include <string_view>

namespace snug::testing {

struct ConformanceCase {
  std::string_view name;
  double sum_length;  ///< longest sum behind an element of the result
  std::string_view text;
};

}  // namespace snug::testing
