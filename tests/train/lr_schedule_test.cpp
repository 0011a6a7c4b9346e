#include "train/lr_schedule.h"

#include <gtest/gtest.h>

#include <vector>

#include "core/error.h"

namespace snug {
namespace {

ScheduleSettings schedule(Scheduler type, double warmup) {
  ScheduleSettings settings;
  settings.learning_rate = 1;
  settings.type = type;
  settings.warmup_steps = CountOrShare{warmup};
  return settings;
}

void expect_rates(const ScheduleSettings& settings, std::int64_t total,
                  const std::vector<double>& rates) {
  const LearningRate rate(settings, total);
  for (std::size_t s = 0; s < rates.size(); ++s) {
    EXPECT_NEAR(rate.at(static_cast<std::int64_t>(s)), rates[s], 5e-6) << "step " << s;
  }
}

// The figures are transformers 5.23's for 10 steps of which 2 warm up.
TEST(LearningRate, LinearAsTransformers) {
  expect_rates(schedule(Scheduler::linear, 2), 10,
               {0, .5, 1, .875, .75, .625, .5, .375, .25, .125});
}

TEST(LearningRate, CosineAsTransformers) {
  expect_rates(schedule(Scheduler::cosine, 2), 10,
               {0, .5, 1, .96194, .85355, .69134, .5, .30866, .14645, .03806, 0, 0, 0});
}

TEST(LearningRate, CosineWithMinimumAsTransformers) {
  ScheduleSettings settings = schedule(Scheduler::cosine_with_min_lr, 2);
  settings.arguments.min_lr_rate = 0.1;
  expect_rates(settings, 10, {0, .5, 1, .96575, .8682, .72221, .55, .37779, .2318, .13425});
}

TEST(LearningRate, WarmupBelowOneIsAShareRoundedUp) {
  EXPECT_EQ(LearningRate(schedule(Scheduler::linear, 0.03), 186).warmup_steps(), 6);
}

TEST(LearningRate, MissingMinimumIsTheUsersError) {
  EXPECT_THROW(LearningRate(schedule(Scheduler::cosine_with_min_lr, 0), 10), UserError);
  ScheduleSettings settings = schedule(Scheduler::warmup_stable_decay, 0);
  EXPECT_THROW(LearningRate(settings, 10), UserError);
  settings.arguments.num_decay_steps = 4;
  settings.arguments.decay_type = "steep";
  EXPECT_THROW(LearningRate(settings, 10), UserError);
}

TEST(LearningRate, StableThenDecay) {
  ScheduleSettings settings = schedule(Scheduler::warmup_stable_decay, 2);
  settings.arguments.num_decay_steps = 4;
  settings.arguments.decay_type = "linear";
  expect_rates(settings, 10, {0, .5, 1, 1, 1, 1, 1, .75, .5, .25, 0, 0});
}

}  // namespace
}  // namespace snug
