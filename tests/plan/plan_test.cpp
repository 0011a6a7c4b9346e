#include "plan/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "backend/null/null.h"
#include "core/error.h"
#include "ir/verify.h"
#include "plan/placement.h"
#include "plan/random_module.h"
#include "plan/scratch_kernels.h"

namespace snug {
namespace {

using testing::HasSubstr;

TensorType vector_type(std::int64_t n) { return {DType::f32, {n}}; }

StepModule one_program(Graph graph) {
  StepModule module;
  module.programs.push_back({graph.name(), std::move(graph)});
  return module;
}

StepModule chain(std::int64_t n, int length) {
  Graph graph("chain");
  Builder builder(graph);
  ValueId x = builder.input("input/x", vector_type(n), Role::input, Scope::call);
  const ValueId w = builder.input("w", vector_type(n), Role::weight, Scope::run);
  for (int i = 0; i < length; ++i) x = builder.one(Op::add, {x, w}, {}, fmt::format("y{}", i));
  graph.outputs.push_back(x);
  return one_program(std::move(graph));
}

TEST(Plan, ChoosesTheFirstKernelThatDoesNotRefuse) {
  const ScratchKernels source;
  const StepModule taken = chain(64, 3);
  const Plan plan = make_plan(taken, source, {});
  ASSERT_EQ(plan.choices.size(), 1U);
  EXPECT_EQ(plan.choices[0].kernel->name, "picky");
  EXPECT_EQ(plan.choices[0].nodes, 3);
  EXPECT_FALSE(plan.choices[0].last_of_list);
  EXPECT_EQ(plan.programs[0].instructions[1].scratch_bytes, 1000);

  const StepModule refused = chain(65, 3);
  const Plan fallback = make_plan(refused, source, {});
  EXPECT_EQ(fallback.choices[0].kernel->name, "null");
  EXPECT_TRUE(fallback.choices[0].last_of_list);
  ASSERT_EQ(fallback.choices[0].refusals.size(), 1U);
  EXPECT_EQ(fallback.choices[0].refusals[0].second, "only multiples of 32");
}

TEST(Plan, RandomStreamsDoNotSplitChoices) {
  Graph graph("streams");
  Builder builder(graph);
  const ValueId x = builder.input("input/x", vector_type(8), Role::input, Scope::call);
  for (const std::string stream : {"a", "b"}) {
    graph.outputs.push_back(builder.one(Op::scale, {x}, {{"factor", 1.0}, {"stream", stream}},
                                        fmt::format("y.{}", stream)));
  }
  graph.outputs.push_back(
      builder.one(Op::scale, {x}, {{"factor", 2.0}, {"stream", std::string("a")}}, "z"));
  const StepModule module = one_program(std::move(graph));
  EXPECT_EQ(make_plan(module, *make_null_kernels(), {}).choices.size(), 2U);
}

TEST(Plan, PeakIsTheBoundAndScratchCounts) {
  const StepModule module = chain(64, 4);
  const Plan plan = make_plan(module, ScratchKernels(), {});
  // The weight, one operand (results take its place) or two, and 1000 bytes of scratch aligned.
  const ArenaPlan& arena = plan.arena(Space::device);
  EXPECT_EQ(arena.run_bytes, 256);
  EXPECT_EQ(arena.bytes, arena.lower_bound);
  EXPECT_LE(arena.bytes, 256 + 2 * 256 + 1024);
  EXPECT_GE(arena.bytes, 256 + 256 + 1024);
}

TEST(Plan, NoKernelIsAnErrorThatNamesTheOpAndTheReasons) {
  class Refusing final : public KernelSource {
   public:
    std::span<const Kernel* const> kernels(Op) const override { return list_; }

   private:
    Kernel kernel_{.name = "never", .op = Op::add, .refuses = [](const KernelQuery&) {
                     return std::optional<std::string>("too small");
                   }};
    std::array<const Kernel*, 1> list_ = {&kernel_};
  };
  const StepModule module = chain(8, 1);
  try {
    make_plan(module, Refusing(), {});
    FAIL();
  } catch (const InternalError& error) {
    EXPECT_THAT(error.what(), HasSubstr("add(f32[8], f32[8])"));
    EXPECT_THAT(error.what(), HasSubstr("never: too small"));
  }
}

TEST(Plan, NamesInputsOutputsAndSharedValues) {
  const StepModule module = chain(64, 3);
  const Plan plan = make_plan(module, *make_null_kernels(), {});
  EXPECT_EQ(plan.location("w").offset, 0);
  EXPECT_EQ(plan.location("w").layout.type, vector_type(64));
  EXPECT_EQ(plan.location(0, "w").offset, 0);
  EXPECT_TRUE(plan.has_location(0, "input/x"));
  EXPECT_TRUE(plan.has_location(0, "y2"));
  EXPECT_FALSE(plan.has_location(0, "nobody"));
  EXPECT_THROW(plan.location("nobody"), InternalError);
  EXPECT_THROW(plan.location(0, "nobody"), InternalError);
}

TEST(Plan, RunScopedValuesLieAtTheBottomInEveryProgram) {
  const StepModule module = random_module(3, 40, true);
  const Plan plan = make_plan(module, *make_null_kernels(), {});
  const std::int64_t run_bytes = plan.arena(Space::device).run_bytes;
  EXPECT_EQ(run_bytes, align_up(RandomProgram::kElements * 4, 64));
  EXPECT_EQ(plan.location("shared.weight").offset, 0);
  for (const ProgramPlan& program : plan.programs) {
    for (const Storage& storage : program.storages) {
      if (storage.space != Space::device) continue;
      EXPECT_GE(storage.offset, run_bytes);
    }
  }
}

TEST(Plan, RandomModulesStayCloseToTheBound) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    const StepModule module = random_module(seed, 20 + static_cast<int>(seed), seed % 2 == 0);
    const Plan plan = make_plan(module, ScratchKernels(), {});
    for (const ArenaPlan& arena : plan.arenas) {
      EXPECT_GE(arena.bytes, arena.lower_bound);
      EXPECT_LE(static_cast<double>(arena.bytes), 1.0076 * static_cast<double>(arena.lower_bound))
          << "seed " << seed << " by " << arena.order;
    }
  }
}

/// Bytes alive at each instant of the timeline must have addresses of their own: brute force.
void expect_no_overlap(const Plan& plan) {
  struct Piece {
    std::int32_t begin, end;
    std::int64_t low, high;
    Space space;
  };
  std::vector<Piece> pieces;
  for (const Root& root : plan.roots) {
    pieces.push_back({root.begin, root.end, root.offset, root.offset + root.bytes, root.space});
  }
  for (const ProgramPlan& program : plan.programs) {
    const std::int32_t first = program.start + 1;
    for (const Storage& storage : program.storages) {
      pieces.push_back({first + storage.begin, first + storage.end, storage.offset,
                        storage.offset + storage.bytes, storage.space});
    }
    for (std::size_t i = 0; i < program.instructions.size(); ++i) {
      const Instruction& instruction = program.instructions[i];
      if (instruction.scratch_bytes == 0) continue;
      const std::int32_t now = first + static_cast<std::int32_t>(i);
      pieces.push_back({now, now, instruction.scratch_offset,
                        instruction.scratch_offset + instruction.scratch_bytes, Space::device});
    }
  }
  std::array<std::int64_t, kSpaces> highest{};
  for (std::size_t a = 0; a < pieces.size(); ++a) {
    auto& high = highest[static_cast<std::size_t>(pieces[a].space)];
    high = std::max(high, align_up(pieces[a].high, plan.target.alignment(pieces[a].space)));
    for (std::size_t b = a + 1; b < pieces.size(); ++b) {
      if (pieces[a].space != pieces[b].space) continue;
      if (pieces[a].end < pieces[b].begin || pieces[b].end < pieces[a].begin) continue;
      EXPECT_TRUE(pieces[a].high <= pieces[b].low || pieces[b].high <= pieces[a].low);
    }
  }
  for (std::size_t s = 0; s < kSpaces; ++s) EXPECT_EQ(highest[s], plan.arenas[s].bytes);
}

TEST(Plan, RandomModulesNeverOverlapAndPlayInAnyLaneOrder) {
  for (unsigned seed = 0; seed < 25; ++seed) {
    const StepModule module = random_module(seed, 60, seed % 3 != 0);
    for (const Program& program : module.programs) verify_graph(program.graph);
    const Plan plan = make_plan(module, ScratchKernels(), {});
    expect_no_overlap(plan);
    const NullReport played = play_null(plan);
    for (std::size_t s = 0; s < kSpaces; ++s) {
      EXPECT_EQ(played.used_peak[s], plan.arenas[s].bytes) << "seed " << seed << " space " << s;
    }
  }
}

TEST(Plan, IsTheSameEachTime) {
  const StepModule module = random_module(7, 80, true);
  const Plan a = make_plan(module, ScratchKernels(), {});
  const Plan b = make_plan(module, ScratchKernels(), {});
  for (std::size_t p = 0; p < a.programs.size(); ++p) {
    ASSERT_EQ(a.programs[p].operands.size(), b.programs[p].operands.size());
    for (std::size_t i = 0; i < a.programs[p].operands.size(); ++i) {
      EXPECT_EQ(a.programs[p].operands[i].offset, b.programs[p].operands[i].offset);
    }
    ASSERT_EQ(a.programs[p].waits.size(), b.programs[p].waits.size());
  }
}

TEST(Plan, StepValuesAreHeldBetweenTheirProgramsAndNotElsewhere) {
  const StepModule module = random_module(11, 30, false);
  const Plan plan = make_plan(module, *make_null_kernels(), {});
  const auto instants = [&](std::int32_t program) {
    const std::int32_t start = plan.program(program).start;
    return std::pair(start,
                     start + 1 + static_cast<std::int32_t>(plan.graph(program).nodes.size()));
  };
  for (const char* name : {"a.grad", "b.grad"}) {
    const Root& root = plan.roots[static_cast<std::size_t>(plan.root_by_name.at(name))];
    EXPECT_GT(root.begin, instants(0).second) << "evaluation holds no gradients";
    EXPECT_GT(root.begin, instants(1).first + 1) << "not before it is written";
    EXPECT_LE(root.begin, instants(1).second);
    EXPECT_GE(root.end, instants(2).second);
    EXPECT_EQ(root.end, instants(3).second) << "an output of the last program";
  }
}

TEST(Plan, AStepValueOfAWholeStepProgramIsItsOwn) {
  StepModule module = random_module(5, 20, false);
  std::mt19937 random(1);
  module.programs.push_back(RandomProgram(random, "whole").draw(20, {"a.grad"}, true, false));
  module.script.buckets[0].whole_step = 4;
  const Plan plan = make_plan(module, *make_null_kernels(), {});
  const ValueId id = plan.graph(4).find("a.grad");
  EXPECT_GE(plan.program(4).storage_of[static_cast<std::size_t>(id)], 0);
  EXPECT_TRUE(plan.has_location(4, "a.grad"));
  play_null(plan);
}

TEST(Plan, SessionValuesOutliveTheProgramsOfTheSessionOnly) {
  StepModule module;
  for (const std::string name : {"prefill", "decode", "train"}) {
    Graph graph(name);
    Builder builder(graph);
    ValueId x = builder.input("input/x", vector_type(1024), Role::input, Scope::call);
    if (name != "train") {
      const ValueId cache =
          builder.input("cache.k", vector_type(1024), Role::kv_cache, Scope::session);
      x = builder.one(Op::add, {x, cache}, {}, "y");
    } else {
      const ValueId a = builder.one(Op::scale, {x}, {{"factor", 2.0}}, "a");
      x = builder.one(Op::add, {x, a}, {}, "y");
    }
    graph.outputs.push_back(x);
    module.programs.push_back({name, std::move(graph)});
  }
  StepScript::Bucket bucket;  // as generation is scripted
  bucket.first = 0;
  bucket.next = 1;
  module.script.buckets.push_back(bucket);
  const Plan plan = make_plan(module, *make_null_kernels(), {});
  const Root& cache = plan.roots[static_cast<std::size_t>(plan.root_by_name.at("cache.k"))];
  EXPECT_LE(cache.begin, plan.program(0).start);
  EXPECT_GE(cache.end, plan.program(1).start + 2);
  EXPECT_TRUE(cache.end < plan.program(2).start || cache.begin > plan.program(2).start + 3);
  EXPECT_EQ(plan.arena(Space::device).bytes, 3 * 4096) << "the training program re-uses its place";
  play_null(plan);
}

TEST(Plan, ASharedValueOfTwoSizesIsRefused) {
  StepModule module = chain(64, 1);
  module.programs.push_back(chain(32, 1).programs[0]);
  EXPECT_THROW(make_plan(module, *make_null_kernels(), {}), InternalError);
}

}  // namespace
}  // namespace snug
