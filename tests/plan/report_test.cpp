#include "plan/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <numeric>

#include "backend/null/null.h"
#include "plan/random_module.h"
#include "plan/scratch_kernels.h"

namespace snug {
namespace {

using testing::HasSubstr;

/// x [1 KiB] -> a -> b; w 1 KiB for the run; the gradient of w outlives the call.
StepModule small_module() {
  StepModule module;
  Graph graph("step");
  Builder builder(graph);
  const TensorType type{DType::f32, {256}};
  const ValueId x = builder.input("input/x", type, Role::input, Scope::call);
  const ValueId w = builder.input("w", type, Role::weight, Scope::run);
  builder.set_layer(0);
  const ValueId a = builder.one(Op::mul, {x, w}, {}, "a");
  builder.set_phase(Phase::backward);
  builder.set_layer(1);
  builder.set_role(Role::gradient);
  const ValueId g = builder.one(Op::mul, {a, x}, {}, "w.grad");
  graph.outputs.push_back(g);
  module.programs.push_back({"step", std::move(graph)});
  return module;
}

TEST(Report, CountsByRoleLayerAndPhase) {
  const StepModule module = small_module();
  const Plan plan = make_plan(module, *make_null_kernels(), {});
  const MemoryReport report = make_report(plan);
  ASSERT_EQ(report.arenas.size(), 1U);
  EXPECT_EQ(report.arenas[0].run_bytes, 1024);
  const SpaceReport& space = report.programs[0].spaces[0];
  EXPECT_EQ(space.peak_at.bytes, space.lower_bound_bytes);
  EXPECT_EQ(space.peak_bytes, plan.arena(Space::device).bytes);
  ASSERT_EQ(space.by_phase.size(), 2U);
  EXPECT_EQ(space.by_phase[0].phase, Phase::forward);
  EXPECT_EQ(space.by_phase[0].at.value, "a");
  EXPECT_EQ(space.by_phase[0].at.bytes, 3 * 1024) << "x, w, a";
  EXPECT_EQ(space.by_phase[1].at.op, "mul");
  ASSERT_FALSE(space.alive.empty());
}

TEST(Report, PartsAddUpInRandomModules) {
  for (unsigned seed = 0; seed < 6; ++seed) {
    const StepModule module = random_module(seed, 50, true);
    const Plan plan = make_plan(module, *make_null_kernels(), {});
    const MemoryReport report = make_report(plan);
    for (const ArenaReport& arena : report.arenas) {
      std::int64_t highest = 0;
      for (const ProgramReport& program : report.programs) {
        const SpaceReport& space = *MemoryReport::find(program, arena.space);
        highest = std::max(highest, space.peak_bytes);
        EXPECT_LE(space.lower_bound_bytes, arena.lower_bound_bytes);
        const auto sum = [](const auto& rows) {
          return std::accumulate(rows.begin(), rows.end(), std::int64_t{0},
                                 [](std::int64_t s, const auto& row) { return s + row.bytes; });
        };
        EXPECT_EQ(sum(space.by_role), space.lower_bound_bytes);
        EXPECT_EQ(sum(space.by_layer), space.lower_bound_bytes);
        EXPECT_EQ(sum(space.alive), space.lower_bound_bytes);
        std::int64_t phases = 0;
        for (const PhaseReport& row : space.by_phase) phases = std::max(phases, row.peak_bytes);
        EXPECT_EQ(phases, space.peak_bytes);
      }
      EXPECT_EQ(highest, arena.arena_bytes);
      const auto peak = static_cast<std::size_t>(report.peak_program(arena.space));
      EXPECT_EQ(report.programs[peak].spaces[0].lower_bound_bytes > 0, true);
    }
  }
}

TEST(Report, TheBudgetDecidesWhetherItFits) {
  const StepModule module = small_module();
  MemoryReport report = make_report(make_plan(module, *make_null_kernels(), {}));
  EXPECT_TRUE(report.fits());
  const std::int64_t needed = report.arena_bytes(Space::device);
  report.budget_bytes = needed;
  EXPECT_TRUE(report.fits());
  report.outside_bytes = 1;
  EXPECT_FALSE(report.fits());
}

TEST(Report, JsonHasThePromisedKeys) {
  const StepModule module = random_module(1, 40, true);
  const Plan plan = make_plan(module, *make_null_kernels(), {});
  const auto json = report_json(make_report(plan));
  EXPECT_EQ(json["fits"], true);
  EXPECT_EQ(json["arena_bytes"], plan.arena(Space::device).bytes);
  EXPECT_EQ(json["peak_bytes"], plan.arena(Space::device).bytes);
  EXPECT_EQ(json["lower_bound_bytes"], plan.arena(Space::device).lower_bound);
  std::int64_t sum = 0;
  for (const auto& [role, bytes] : json["by_role"].items()) sum += bytes.get<std::int64_t>();
  EXPECT_EQ(sum, json["peak_at"]["alive_bytes"]);
  EXPECT_TRUE(json["by_phase"].contains("forward"));
  EXPECT_EQ(json["spaces"]["host"]["arena_bytes"], plan.arena(Space::host).bytes);
  for (const Program& program : module.programs) {
    const auto& entry = json["programs"][program.name];
    for (const char* key :
         {"arena_bytes", "peak_bytes", "lower_bound_bytes", "by_role", "by_phase", "peak_at"}) {
      EXPECT_TRUE(entry.contains(key)) << key;
    }
  }
}

TEST(Report, TextNamesThePeakAndKernelsTheChoice) {
  const StepModule module = small_module();
  const auto kernels = make_null_kernels();
  const Plan plan = make_plan(module, *kernels, {});
  const std::string text = report_text(make_report(plan));
  EXPECT_THAT(text, HasSubstr("device arena: "));
  EXPECT_THAT(text, HasSubstr("peak at step #"));
  EXPECT_THAT(text, HasSubstr("weight"));
  EXPECT_THAT(text, HasSubstr("program step"));
  EXPECT_THAT(kernels_text(plan), HasSubstr("mul(f32[256], f32[256]): null, 2 nodes"));
}

/// Adds two inputs of `length`.
StepModule sum_module(std::int64_t length) {
  StepModule module;
  Graph graph("step");
  Builder builder(graph);
  const TensorType type{DType::f32, {length}};
  const ValueId a = builder.input("a", type, Role::input, Scope::call);
  const ValueId b = builder.input("b", type, Role::input, Scope::call);
  graph.outputs.push_back(builder.one(Op::add, {a, b}, {}, "sum"));
  module.programs.push_back({"step", std::move(graph)});
  return module;
}

TEST(Report, WarnsOfTheReferenceKernelWhereOthersRefused) {
  const ScratchKernels kernels;
  EXPECT_TRUE(reference_warnings(make_plan(sum_module(64), kernels, {})).empty());
  const auto warnings = reference_warnings(make_plan(sum_module(63), kernels, {}));
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_EQ(warnings[0],
            "warning: add(f32[63], f32[63]) runs on the slow reference kernel; not picky: only "
            "multiples of 32");
  const auto alone = make_null_kernels();
  EXPECT_TRUE(reference_warnings(make_plan(sum_module(63), *alone, {})).empty())
      << "a list of one has no faster kernel that refused";
}

}  // namespace
}  // namespace snug
