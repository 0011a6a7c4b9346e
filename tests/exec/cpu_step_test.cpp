// Whole training steps on the CPU back end: what they allocate, use and repeat.

#include <gtest/gtest.h>

#include <iostream>
#include <vector>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/isa.h"
#include "core/settings_load.h"
#include "exec/allocations.h"
#include "exec/executor.h"
#include "model/shapes.h"
#include "passes/pipeline.h"
#include "passes/recompute.h"

namespace snug {
namespace {

constexpr std::int64_t kRows = 2;
constexpr std::int64_t kLength = 48;

ModelConfig small_model() {
  ModelConfig config = shape_config("tiny");
  config.num_hidden_layers = 2;
  config.vocab_size = 500;
  return config;
}

/// A planned step of a small model and everything that plays it.
class CpuStep {
 public:
  CpuStep(const char* key, const char* value, bool accumulate, int threads)
      : module_(compile(key, value, accumulate)),
        plan_(make_plan(module_, backend_, target(threads))),
        pool_(threads),
        executor_(plan_, reserve_arenas(plan_, pool_), pool_) {
    executor_.play(module_.script.init);
    for (const Root& root : plan_.roots) {
      if (root.role == Role::weight) fill(root);
    }
    executor_.value<float>("scalar/lr")[0] = 1e-3F;
    executor_.value<float>("scalar/correction1")[0] = 0.1F;
    executor_.value<float>("scalar/correction2")[0] = 0.001F;
    executor_.value<float>("scalar/loss_weight")[0] = 1.0F / (kRows * kLength);
    executor_.value<std::int32_t>("scalar/apply")[0] = 1;
    const StepScript::Bucket& bucket = module_.script.buckets.front();
    calls_ = accumulate
                 ? std::vector<std::int32_t>{bucket.first, bucket.next, module_.script.update}
                 : std::vector<std::int32_t>{bucket.whole_step};
  }

  /// Plays a step; the loss of its first program.
  float play() {
    float loss = 0;
    for (const std::int32_t program : calls_) {
      const bool micro = program != module_.script.update;
      if (micro) set_inputs(program);
      executor_.play(program);
      if (micro) loss = executor_.value<float>(program, "metric/loss")[0];
    }
    return loss;
  }
  const Plan& plan() const { return plan_; }
  const Executor& executor() const { return executor_; }

 private:
  static Target target(int threads) {
    const Isa isa = detect_isa();
    cap_isa(isa);
    return {.backend = "cpu", .isa = isa, .threads = threads, .libraries = {}};
  }

  static StepModule compile(const char* key, const char* value, bool accumulate) {
    Settings settings = make_settings(std::vector<Assignment>{from_command_line(key, value)});
    if (is_automatic(settings.recompute)) settings.recompute = nothing_recomputed();
    return compile_step(small_model(),
                        {.rows = kRows,
                         .lengths = {kLength},
                         .accumulate = accumulate,
                         .evaluation_lengths = {kLength},
                         .rope_positions = kLength},
                        settings, nullptr);
  }

  /// Small numbers in every weight, whatever its type.
  void fill(const Root& root) {
    auto* bytes = executor_.bytes(root.name).data();
    const std::int64_t count = root.type.shape.elements();
    for (std::int64_t i = 0; i < count; ++i) {
      const float number = static_cast<float>(i * 37 % 101 - 50) * 0.002F;
      if (root.type.dtype == DType::bf16) {
        reinterpret_cast<BFloat16*>(bytes)[i] = BFloat16(number);
      } else {
        reinterpret_cast<float*>(bytes)[i] = number;
      }
    }
  }

  void set_inputs(std::int32_t program) {
    const auto ids = executor_.value<std::int32_t>(program, "input/ids");
    const auto labels = executor_.value<std::int32_t>(program, "input/labels");
    const auto positions = executor_.value<std::int32_t>(program, "input/positions");
    const auto doc_start = executor_.value<std::int32_t>(program, "input/doc_start");
    for (std::size_t t = 0; t < ids.size(); ++t) {
      const auto token = static_cast<std::int32_t>(t);
      ids[t] = token * 7 % 500;
      labels[t] = t % 9 == 0 ? -100 : token * 11 % 500;
      positions[t] = token % kLength;
      doc_start[t] = token / kLength * kLength;
    }
  }

  CpuBackend backend_;
  StepModule module_;
  Plan plan_;
  ThreadPool pool_;
  Executor executor_;
  std::vector<std::int32_t> calls_;
};

TEST(CpuStep, AllocatesNothingWhileItPlays) {
  for (const bool accumulate : {false, true}) {
    CpuStep step("activation_checkpointing", "true", accumulate, 2);
    const std::int64_t before = allocation_count();
    watch_heap();
    step.play();
    step.play();
    const HeapUse heap = heap_use();
    EXPECT_EQ(allocation_count() - before, 0);
    // Libraries may, for the length of a call.
    EXPECT_EQ(heap.outstanding, 0);
    EXPECT_LE(heap.peak_bytes, 4096);
    std::cout << "while two steps played: " << allocation_count() - before << " calls of new, "
              << heap.calls << " of malloc, " << heap.peak_bytes << " bytes at most\n";
  }
}

TEST(CpuStep, UsesWhatWasPlannedFromTheFirstStepOn) {
  CpuStep step("activation_checkpointing", "cheap", false, 2);
  step.play();
  const std::int64_t first = step.executor().used_peak(Space::device);
  EXPECT_EQ(first, step.plan().arena(Space::device).bytes);
  for (int i = 0; i < 5; ++i) step.play();
  EXPECT_EQ(step.executor().used_peak(Space::device), first);
}

TEST(CpuStep, RecomputingAndThreadsChangeNoBit) {
  const auto losses = [](const char* policy, int threads) {
    CpuStep step("activation_checkpointing", policy, false, threads);
    return std::vector<float>{step.play(), step.play(), step.play()};
  };
  const auto plain = losses("false", 1);
  EXPECT_LT(plain[2], plain[0]);
  for (const char* policy : {"cheap", "true", "keep_attention", "segments:1"}) {
    EXPECT_EQ(losses(policy, 2), plain) << policy;
  }
  EXPECT_EQ(losses("false", 3), plain);
}

TEST(CpuStep, LearnsWithoutMasterWeights) {
  CpuStep step("master_weights", "none", true, 2);
  const float first = step.play();
  for (int i = 0; i < 5; ++i) step.play();
  EXPECT_LT(step.play(), first);
}

}  // namespace
}  // namespace snug
