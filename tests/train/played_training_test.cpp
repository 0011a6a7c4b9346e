// Small trainings played as a whole: under the debug player, and what they use of their plans.

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "core/settings_load.h"
#include "exec/executor.h"
#include "train/played.h"
#include "train/request.h"
#include "train/step_runner.h"
#include "train/weights.h"

namespace snug {
namespace {

ModelSource small_model() {
  ModelSource model;
  ModelConfig& config = model.config;
  config.vocab_size = 260;  // the embedding is large enough for formats in blocks
  config.hidden_size = 16;
  config.intermediate_size = 40;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 4;
  config.max_position_embeddings = 128;
  config.sliding_window = {0, 0};
  config.initializer_range = 0.3;
  return model;
}

Dataset rows_of(const std::vector<std::int64_t>& lengths) {
  Dataset data;
  for (const std::int64_t length : lengths) {
    TokenRow row;
    for (std::int64_t t = 0; t < length; ++t) {
      row.ids.push_back(static_cast<std::int32_t>((t * 37 + length * 11) % 260));
    }
    row.labels = row.ids;
    data.add(row, {.max_length = 128, .vocab_size = 260});
  }
  return data;
}

Settings settings_of(const std::vector<std::string>& words) {
  std::vector<Assignment> list = {from_command_line("device_memory", "1GiB")};
  for (const std::string& word : words) {
    const auto equals = word.find('=');
    list.push_back(from_command_line(word.substr(0, equals), word.substr(equals + 1)));
  }
  return make_settings(list);
}

/// A run from settings to played steps, by the way every verb takes.
class Played {
 public:
  Played(const std::vector<std::string>& words, DataSource data, DebugOptions debug = {})
      : data_(std::move(data)),
        request_(make_request(settings_of(words), model_, data_, nullptr)),
        recipe_(make_recipe(request_, model_)),
        pool_(2),
        executor_(recipe_.plan, reserve_arenas(recipe_.plan, pool_), pool_, {.debug = debug}),
        runner_(recipe_, executor_) {
    executor_.play(recipe_.module->script.init);
    fill_weights(
        recipe_.module->parameters, model_, 7,
        [&](std::string_view name) { return executor_.bytes(name); }, pool_);
  }

  StepOutcome step(const std::vector<std::int64_t>& rows, std::int64_t applied = 0) {
    return runner_.train(data_.train, rows, 1e-2, applied);
  }
  double evaluate() { return runner_.evaluate(data_.eval).loss_sum; }
  const Recipe& recipe() const { return recipe_; }
  const StepScript& script() const { return recipe_.module->script; }
  std::int64_t used() const { return executor_.used_peak(Space::device); }
  std::int64_t planned() const { return recipe_.plan.arena(Space::device).bytes; }
  PlayedPart part() const { return played_part(recipe_, executor_); }

 private:
  ModelSource model_ = small_model();
  DataSource data_;
  RunRequest request_;
  Recipe recipe_;
  ThreadPool pool_;
  Executor executor_;
  StepRunner runner_;
};

DataSource data_of(const std::vector<std::int64_t>& train, const std::vector<std::int64_t>& eval) {
  DataSource data;
  data.max_length = 128;
  data.train = rows_of(train);
  data.eval = rows_of(eval);
  return data;
}

using Words = std::vector<std::string>;

class DebuggedTraining : public testing::TestWithParam<Words> {};

TEST_P(DebuggedTraining, GivesTheSameBitsAndUsesWhatIsPlanned) {
  const auto data = [] { return data_of({5, 12, 9, 11}, {7, 12}); };
  Played plain(GetParam(), data());
  Played watched(GetParam(), data(), {.watch_writes = true, .poison_dead = true});
  const StepOutcome a = plain.step({0, 1, 2, 3});
  const StepOutcome b = watched.step({0, 1, 2, 3});
  EXPECT_EQ(a.loss_sum, b.loss_sum);
  EXPECT_EQ(a.grad_norm, b.grad_norm);
  EXPECT_TRUE(a.applied && std::isfinite(a.loss_sum) && a.loss_sum > 0);
  EXPECT_EQ(plain.evaluate(), watched.evaluate());
  EXPECT_EQ(plain.used(), plain.part().peak_bytes);
  EXPECT_EQ(watched.used(), plain.used());
  EXPECT_EQ(plain.used(), plain.planned());
}

INSTANTIATE_TEST_SUITE_P(
    Recipes, DebuggedTraining,
    testing::Values(Words{"global_batch_size=4", "bucket_count=1"},
                    Words{"global_batch_size=4", "per_device_train_batch_size=2", "bucket_count=1",
                          "activation_checkpointing=true"},
                    Words{"global_batch_size=4", "per_device_train_batch_size=4", "bucket_count=1",
                          "optim=adamw_8bit", "master_weights=none", "max_grad_norm=0",
                          "update_in_backward=true", "activation_checkpointing=true"},
                    Words{"global_batch_size=4", "bucket_count=1", "finetuning_type=lora",
                          "lora_r=4", "lora_dropout=0.1", "load_in_4bit=true"}));

TEST(PlayedTraining, MemoryIsThatOfTheStepThatWasPlayed) {
  Played run({"global_batch_size=2", "per_device_train_batch_size=2", "bucket_count=2"},
             data_of({9, 12, 10, 8, 96, 11}, {}));
  const StepOutcome before = run.step({0, 1});
  const StepOutcome longer = run.step({4, 5}, 1);
  const StepOutcome after = run.step({2, 3}, 2);
  for (const StepOutcome& step : {before, longer, after}) {
    EXPECT_GT(step.memory.forward, 0);
    EXPECT_GT(step.memory.backward, 0);
    EXPECT_GT(step.memory.update, 0);
  }
  EXPECT_LT(before.memory.peak(), longer.memory.peak());
  EXPECT_EQ(before.memory.forward, after.memory.forward);
  EXPECT_EQ(before.memory.backward, after.memory.backward);
  EXPECT_EQ(before.memory.update, after.memory.update);
  EXPECT_EQ(longer.memory.peak(), run.planned());
}

TEST(PlayedTraining, RowsToEvaluateDoNotStretchRowsToTrainOn) {
  const Words words = {"global_batch_size=2", "bucket_count=2"};
  Played run(words, data_of({9, 12, 16, 8}, {100, 20}));
  EXPECT_EQ(run.script().buckets.back().length, 16);
  ASSERT_EQ(run.script().evaluations.size(), 2U);
  EXPECT_EQ(run.script().evaluations.front().length, 32);
  EXPECT_EQ(run.script().evaluations.back().length, 100);
  run.step({0, 1});
  EXPECT_GT(run.evaluate(), 0);
  Played alone(words, data_of({9, 12, 16, 8}, {}));
  EXPECT_TRUE(alone.script().evaluations.empty());
}

TEST(PlayedTraining, TilesOfRowsKeepBits) {
  // 40 rows in tiles of 32 and 8.
  Played whole({"bf16=false"}, data_of({}, {40}));
  Played tiled({"bf16=false", "mlp_chunks=2"}, data_of({}, {40}));
  EXPECT_EQ(whole.evaluate(), tiled.evaluate());
}

}  // namespace
}  // namespace snug
