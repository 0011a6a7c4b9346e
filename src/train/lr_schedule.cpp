#include "train/lr_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/error.h"

namespace snug {
namespace {

double wave(double cycles, double progress) {
  return 0.5 * (1.0 + std::cos(std::numbers::pi * cycles * 2.0 * progress));
}

bool has_minimum(Scheduler type) {
  return type == Scheduler::cosine_with_min_lr || type == Scheduler::cosine_warmup_with_min_lr;
}

double minimum_share(const ScheduleSettings& settings) {
  const SchedulerArguments& arguments = settings.arguments;
  if (arguments.min_lr && arguments.min_lr_rate) {
    user_error("lr_scheduler_kwargs: min_lr and min_lr_rate say the same thing; give one of them");
  }
  if (arguments.min_lr) return *arguments.min_lr / settings.learning_rate;
  if (arguments.min_lr_rate) return *arguments.min_lr_rate;
  user_error("lr_scheduler_kwargs: this schedule needs min_lr or min_lr_rate");
}

double shaped(const std::string& type, const char* key, double linear) {
  if (type == "linear") return linear;
  if (type == "cosine") return 0.5 * (1.0 - std::cos(std::numbers::pi * linear));
  if (type == "1-sqrt") return 1.0 - std::sqrt(1.0 - linear);
  user_error("lr_scheduler_kwargs: {} is '{}'; it can be linear, cosine or 1-sqrt", key, type);
}

}  // namespace

LearningRate::LearningRate(const ScheduleSettings& settings, std::int64_t total_steps)
    : settings_(settings),
      total_(static_cast<double>(total_steps)),
      warmup_(static_cast<double>(settings.warmup_steps.of(total_steps))) {
  if (has_minimum(settings_.type)) floor_ = minimum_share(settings_);
  if (settings_.type == Scheduler::warmup_stable_decay) {
    if (!settings_.arguments.num_decay_steps) {
      user_error("lr_scheduler_kwargs: warmup_stable_decay needs num_decay_steps");
    }
    floor_ = settings_.arguments.min_lr_ratio.value_or(0.0);
    stable_decay(0);  // names an unknown shape now rather than in the middle of the run
    stable_decay(total_);
  }
}

double LearningRate::at(std::int64_t applied) const {
  const auto step = static_cast<double>(applied);
  double factor = 0;
  if (settings_.type == Scheduler::constant) {
    factor = 1;
  } else if (settings_.type == Scheduler::warmup_stable_decay) {
    factor = stable_decay(step);
  } else {
    factor = step < warmup_ ? warm(step) : after_warmup(step);
  }
  return settings_.learning_rate * std::max(0.0, factor);
}

double LearningRate::progress(double step) const {
  return std::min(1.0, (step - warmup_) / std::max(1.0, total_ - warmup_));
}

double LearningRate::warm(double step) const {
  if (settings_.type != Scheduler::cosine_warmup_with_min_lr) return step / std::max(1.0, warmup_);
  if (!settings_.arguments.warmup_lr_rate) return (step + 1.0) / std::max(1.0, warmup_);
  const double start = *settings_.arguments.warmup_lr_rate;
  return start + (1.0 - start) * step / std::max(1.0, warmup_ - 1.0);
}

double LearningRate::after_warmup(double step) const {
  const SchedulerArguments& arguments = settings_.arguments;
  switch (settings_.type) {
    case Scheduler::linear:
      return (total_ - step) / std::max(1.0, total_ - warmup_);
    case Scheduler::cosine:
      return wave(arguments.num_cycles.value_or(0.5), progress(step));
    case Scheduler::cosine_with_min_lr:
      return wave(arguments.num_cycles.value_or(0.5), progress(step)) * (1 - floor_) + floor_;
    case Scheduler::cosine_warmup_with_min_lr:
      return wave(arguments.num_cycles.value_or(0.5), progress(step + 1)) * (1 - floor_) + floor_;
    case Scheduler::cosine_with_restarts: {
      const double x = progress(step);
      const double cycle = std::fmod(arguments.num_cycles.value_or(1.0) * x, 1.0);
      return x >= 1 ? 0.0 : wave(0.5, cycle);
    }
    case Scheduler::polynomial: {
      const double end = arguments.lr_end.value_or(1e-7) / settings_.learning_rate;
      return (1 - end) * std::pow(1 - progress(step), arguments.power.value_or(1.0)) + end;
    }
    case Scheduler::inverse_sqrt: {
      const double standard = warmup_ > 0 ? warmup_ : 10000.0;
      const double timescale =
          arguments.timescale ? static_cast<double>(*arguments.timescale) : standard;
      return 1.0 / std::sqrt((step + timescale - warmup_) / timescale);
    }
    case Scheduler::constant:
    case Scheduler::constant_with_warmup:
    case Scheduler::warmup_stable_decay:
      return 1;
  }
  internal_error("schedule {} is unknown", static_cast<int>(settings_.type));
}

double LearningRate::stable_decay(double step) const {
  const SchedulerArguments& arguments = settings_.arguments;
  const auto decay = static_cast<double>(*arguments.num_decay_steps);
  const double stable = arguments.num_stable_steps
                            ? static_cast<double>(*arguments.num_stable_steps)
                            : total_ - warmup_ - decay;
  double factor = 1;
  if (step < warmup_) {
    factor = shaped(arguments.warmup_type.value_or("linear"), "warmup_type", step / warmup_);
  } else if (step >= warmup_ + stable) {
    const double x = std::min(1.0, (step - warmup_ - stable) / std::max(1.0, decay));
    const std::string type = arguments.decay_type.value_or("cosine");
    const double cycles = arguments.num_cycles.value_or(0.5);
    factor = type == "cosine" && x < 1 ? wave(cycles, x) : shaped(type, "decay_type", 1.0 - x);
  }
  return factor * (1.0 - floor_) + floor_;
}

}  // namespace snug
