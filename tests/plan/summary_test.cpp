// A plan in the words of people.

#include "plan/summary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backend/null/null.h"
#include "plan/random_module.h"

namespace snug {
namespace {

using testing::HasSubstr;

PeakAt at(const char* program, const char* op, const char* value, Phase phase, int layer) {
  return {program, 0, op, value, phase, layer, 0};
}

TEST(Summary, NamesThePlaceOfThePeakInWords) {
  const auto words = [](auto... arguments) { return place_in_words(at(arguments...)); };
  EXPECT_EQ(words("micro.512.next", "head_loss_grad", "metric/loss", Phase::backward, -1),
            "in backward, at the head");
  EXPECT_EQ(
      words("step.8", "linear_dw", "model.layers.0.mlp.down_proj.weight.grad", Phase::backward, 0),
      "in backward, in layer 0's MLP");
  EXPECT_EQ(words("step.8", "packed_linear", "layers.31.up.base/again", Phase::backward, 31),
            "in backward, in layer 31's MLP");
  EXPECT_EQ(words("step.8", "attention_grad", "layers.3.q_rope.grad", Phase::backward, 3),
            "in backward, in layer 3's attention");
  EXPECT_EQ(words("step.8", "add", "layers.3.middle", Phase::forward, 3), "in forward, in layer 3");
  EXPECT_EQ(words("step.8", "rms_norm", "final_norm", Phase::forward, -1),
            "in forward, at the last norm");
  EXPECT_EQ(words("update", "global_norm", "metric/grad_norm", Phase::update, -1),
            "in the update, at the gradients' norm");
  EXPECT_EQ(words("eval.512", "head_loss", "metric/loss", Phase::forward, -1),
            "in evaluation, at the head");
  EXPECT_EQ(words("step.8", "embedding_dw", "model.embed_tokens.weight.grad", Phase::backward, -1),
            "in backward, at the embedding");
  EXPECT_EQ(words("init", "rope_table", "rope/cos", Phase::init, -1), "before the first step");
}

TEST(Summary, TheSixUsesAddUpToWhatIsNeeded) {
  for (unsigned seed = 0; seed < 6; ++seed) {
    const StepModule module = random_module(seed, 50, true);
    MemoryReport report = make_report(make_plan(module, *make_null_kernels(), {}));
    report.outside_bytes = 12345;
    report.budget_bytes = 1 << 30;
    const MemorySummary summary = summarize(report);
    ASSERT_EQ(summary.uses.size(), kUses.size());
    std::int64_t sum = 0;
    for (const UseBytes& row : summary.uses) {
      EXPECT_GE(row.bytes, 0);
      sum += row.bytes;
    }
    EXPECT_EQ(sum, report.arena_bytes(Space::device) + 12345);
    EXPECT_EQ(sum, summary.needed_bytes);
    EXPECT_EQ(summary.bytes(Use::outside), 12345);
  }
}

TEST(Summary, SaysWhatIsFreeOrMissing) {
  MemorySummary summary;
  for (const Use use : kUses) summary.uses.push_back({use, 3 << 20, {}});
  summary.uses[0].parts = {{Role::master, DType::f32, 1, 2 << 20},
                           {Role::weight, DType::bf16, 1, 1 << 20},
                           {Role::weight, DType::u8, 1, 64}};
  summary.uses[1].parts = {{Role::optimizer_state, DType::f32, 2, 3 << 20}};
  summary.needed_bytes = 18 << 20;
  summary.budget_bytes = 20 << 20;
  summary.peak = "in forward";
  const std::string text = summary_text(summary);
  EXPECT_THAT(text, HasSubstr("weights         3.00 MiB  f32 master 2.00 MiB + bf16 weight 1.00 "
                              "MiB\n  optimizer       3.00 MiB  f32\n"));
  EXPECT_THAT(text, HasSubstr("outside         3.00 MiB\n  free            2.00 MiB\n"
                              "peak: in forward\n"));
  summary.budget_bytes = 10 << 20;
  EXPECT_THAT(summary_text(summary), HasSubstr("  missing         8.00 MiB\n"));
}

}  // namespace
}  // namespace snug
