#include "ir/program.h"

namespace snug {

void StepScript::expand(std::span<const std::int32_t> slot_buckets,
                        std::vector<ScriptCall>& calls) const {
  calls.clear();
  const auto bucket = [&](std::size_t slot) -> const Bucket& {
    return buckets[static_cast<std::size_t>(slot_buckets[slot])];
  };
  if (slot_buckets.size() == 1 && bucket(0).whole_step >= 0) {
    calls.push_back({bucket(0).whole_step, 0});
    return;
  }
  for (std::size_t slot = 0; slot < slot_buckets.size(); ++slot) {
    const std::int32_t program = slot == 0 ? bucket(slot).first : bucket(slot).next;
    check(program >= 0, "no program for micro-batch {} of a step of {}", slot, slot_buckets.size());
    calls.push_back({program, static_cast<std::int32_t>(slot)});
  }
  calls.push_back({update, -1});
}

}  // namespace snug
