#include "train/loss_scale.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"

namespace snug {
namespace {

constexpr double kGrowth = 2;
constexpr double kBackoff = 0.5;
constexpr std::int64_t kGrowthInterval = 2000;

}  // namespace

void LossScale::update(bool finite) {
  if (!finite) {
    scale_ *= kBackoff;
    growth_tracker_ = 0;
    ++skipped_;
    if (scale_ < 1) {
      user_error(
          "fp16: gradients overflow even at a loss scale of 1 ({} updates skipped). The last "
          "checkpoint stays. Lower learning_rate, look at the data, or train with bf16=true.",
          skipped_);
    }
    return;
  }
  if (++growth_tracker_ < kGrowthInterval) return;
  growth_tracker_ = 0;
  const double grown = scale_ * kGrowth;
  if (grown <= static_cast<double>(std::numeric_limits<float>::max())) scale_ = grown;
}

std::string LossScale::to_json() const {
  return nlohmann::json{
             {"scale", scale_}, {"growth_tracker", growth_tracker_}, {"skipped", skipped_}}
             .dump(2) +
         "\n";
}

LossScale LossScale::from_json(const std::string& text, const std::string& where) {
  LossScale state;
  try {
    const nlohmann::json json = parse_json(text, where);
    state.scale_ = json.at("scale").get<double>();
    state.growth_tracker_ = json.at("growth_tracker").get<std::int64_t>();
    state.skipped_ = json.at("skipped").get<std::int64_t>();
  } catch (const nlohmann::json::exception& error) {
    user_error("{}: {}. Resume from another checkpoint.", where, error.what());
  }
  const bool good = std::isfinite(state.scale_) && state.scale_ >= 1 &&
                    state.growth_tracker_ >= 0 && state.skipped_ >= 0;
  if (!good) user_error("{}: no state of a loss scale. Resume from another checkpoint.", where);
  return state;
}

}  // namespace snug
