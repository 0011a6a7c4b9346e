#include "train/played.h"

#include <algorithm>
#include <array>

namespace snug {
namespace {

constexpr std::array kAllPhases = {Phase::init, Phase::forward, Phase::backward, Phase::update};

bool was_played(const Executor& executor, std::int32_t program) {
  return program >= 0 && std::any_of(kAllPhases.begin(), kAllPhases.end(), [&](Phase phase) {
           return executor.used_peak(program, phase, Space::device) > 0;
         });
}

}  // namespace

PlayedPart played_part(const Recipe& recipe, const Executor& executor) {
  PlayedPart part;
  for (std::size_t p = 0; p < recipe.module->programs.size(); ++p) {
    const auto program = static_cast<std::int32_t>(p);
    if (!was_played(executor, program)) continue;
    part.peak_bytes = std::max(part.peak_bytes, executor.planned_peak(program, Space::device));
  }
  for (const StepScript::Bucket& bucket : recipe.module->script.buckets) {
    const std::int32_t micro = bucket.whole_step >= 0 ? bucket.whole_step : bucket.first;
    const bool came = was_played(executor, micro) || was_played(executor, bucket.next);
    if (!came) part.absent_lengths.push_back(bucket.length);
  }
  return part;
}

}  // namespace snug
