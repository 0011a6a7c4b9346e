#include "ir/rope.h"

#include <cmath>
#include <numbers>

namespace snug {

double rope_frequency(const Attributes& attributes, std::int64_t pair) {
  const double half = static_cast<double>(attributes.integer("half"));
  const double plain = std::pow(attributes.real("theta"), -static_cast<double>(pair) / half);
  const std::string kind = attributes.has("kind") ? attributes.text("kind") : "plain";
  if (kind == "plain") return plain;
  const double slow = plain / attributes.real("factor");
  if (kind == "linear") return slow;
  check(kind == "llama3", "rope kind '{}' is unknown", kind);
  const double low = attributes.real("low_freq_factor");
  const double high = attributes.real("high_freq_factor");
  const double turns = attributes.real("original_positions") * plain / (2.0 * std::numbers::pi);
  if (turns < low) return slow;
  if (turns > high) return plain;
  const double smooth = (turns - low) / (high - low);
  return (1.0 - smooth) * slow + smooth * plain;
}

}  // namespace snug
