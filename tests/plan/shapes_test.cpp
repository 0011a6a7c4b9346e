// Plans of published shapes: no weights, no kernels, the bytes they must come to.

#include "model/shapes.h"

#include <gtest/gtest.h>

#include "backend/null/null.h"
#include "passes/pipeline.h"
#include "plan/report.h"

namespace snug {
namespace {

struct Recipe {
  std::string_view shape;
  std::int64_t rows;
  std::int64_t length;
  bool accumulate;
  RecomputeOptions::Policy recompute;
};

StepModule compile(const Recipe& recipe) {
  Settings settings;
  settings.precision.bf16 = true;
  settings.optimizer.max_grad_norm = 1;
  settings.recompute.policy = recipe.recompute;
  const StepRequest request{.rows = recipe.rows,
                            .lengths = {recipe.length},
                            .accumulate = recipe.accumulate,
                            .evaluation_lengths = {recipe.length},
                            .rope_positions = recipe.length};
  return compile_step(shape_config(recipe.shape), request, settings, nullptr);
}

std::int64_t parameters_of(const StepModule& module) {
  std::int64_t elements = 0;
  for (const Parameter& parameter : module.parameters) elements += parameter.type.shape.elements();
  return elements;
}

class PublishedShape : public testing::TestWithParam<Recipe> {};

TEST_P(PublishedShape, IsPlannedWithinOnePercentOfTheBound) {
  const StepModule module = compile(GetParam());
  const Plan plan = make_plan(module, *make_null_kernels(), {});
  const ArenaPlan& arena = plan.arena(Space::device);
  EXPECT_LE(arena.bytes - arena.lower_bound, arena.lower_bound / 100);
  // bf16 weights, fp32 master and two fp32 moments: 14 bytes a parameter; the rest is small tables.
  const std::int64_t states = 14 * parameters_of(module);
  EXPECT_GE(arena.run_bytes, states);
  EXPECT_LE(arena.run_bytes, states + states / 1000 + (std::int64_t{8} << 20));
  // Gradients held through the step come on top.
  if (GetParam().accumulate) {
    EXPECT_GE(arena.bytes, 16 * parameters_of(module));
  }
  EXPECT_EQ(play_null(plan).used_peak[0], arena.bytes);
}

TEST_P(PublishedShape, EvaluationNeedsLessThanTraining) {
  const StepModule module = compile(GetParam());
  const Plan plan = make_plan(module, *make_null_kernels(), {});
  const MemoryReport report = make_report(plan);
  const StepScript::Bucket& bucket = module.script.buckets[0];
  const std::int32_t train = GetParam().accumulate ? bucket.next : bucket.whole_step;
  const auto bound = [&](std::int32_t program) {
    return report.programs[static_cast<std::size_t>(program)].spaces[0].lower_bound_bytes;
  };
  EXPECT_LT(bound(module.script.evaluations[0].program), bound(train));
}

using Policy = RecomputeOptions::Policy;
INSTANTIATE_TEST_SUITE_P(Shapes, PublishedShape,
                         testing::Values(Recipe{"smollm2-135m", 4, 512, false, Policy::off},
                                         Recipe{"smollm2-135m", 4, 512, true, Policy::every_block},
                                         Recipe{"llama-3.2-1b", 8, 2048, false,
                                                Policy::keep_attention},
                                         Recipe{"qwen3-4b", 8, 2048, false, Policy::cheap},
                                         Recipe{"llama-3-70b", 8, 4096, true, Policy::every_block}),
                         [](const auto& row) {
                           std::string name(row.param.shape);
                           for (char& letter : name) {
                             if (std::isalnum(static_cast<unsigned char>(letter)) == 0)
                               letter = '_';
                           }
                           return name + (row.param.accumulate ? "_accumulate" : "");
                         });

}  // namespace
}  // namespace snug
