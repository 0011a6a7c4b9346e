#include "exec/executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <numeric>
#include <thread>

#include "core/error.h"
#include "exec/allocations.h"
#include "exec/interpret.h"
#include "exec/kernels.h"
#include "ir/builder.h"
#include "plan/placement.h"
#include "plan/random_module.h"

namespace snug {
namespace {

using testing::HasSubstr;

Numbers ramp(float start) {
  Numbers numbers(static_cast<std::size_t>(RandomProgram::kElements));
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    numbers[i] = start + 0.125F * static_cast<float>(i);
  }
  return numbers;
}

void copy_to(std::span<float> to, const Numbers& from) {
  ASSERT_EQ(to.size(), from.size());
  std::copy(from.begin(), from.end(), to.begin());
}

/// Plays an evaluation and two steps, and compares every output with the interpreter's.
void expect_same_as_interpreter(const StepModule& module, const KernelSource& source,
                                ExecutorOptions options) {
  const Plan plan = make_plan(module, source, {});
  ThreadPool pool(2);
  Executor executor(plan, reserve_arenas(plan, pool), pool, options);
  Interpreter interpreter;
  interpreter.shared["shared.weight"] = ramp(1);
  copy_to(executor.value<float>("shared.weight"), ramp(1));
  float start = 0;
  for (const std::int32_t program : {0, 1, 2, 2, 3, 0, 1, 3}) {
    const Numbers x = ramp(start += 1);
    if (plan.has_location(program, "input/x")) {
      copy_to(executor.value<float>(program, "input/x"), x);
    }
    executor.play(program);
    for (const auto& [name, expected] : interpreter.play(plan.graph(program), x)) {
      const std::span<float> actual = executor.value<float>(program, name);
      ASSERT_TRUE(std::equal(actual.begin(), actual.end(), expected.begin()))
          << module.programs[static_cast<std::size_t>(program)].name << " " << name;
    }
  }
  for (const Space space : {Space::device, Space::host}) {
    EXPECT_EQ(executor.used_peak(space), plan.arena(space).bytes);
  }
}

TEST(Executor, ComputesWhatTheGraphSaysOnSeveralLanes) {
  const ReferenceBackend reference;
  for (unsigned seed = 0; seed < 12; ++seed) {
    SCOPED_TRACE(seed);
    expect_same_as_interpreter(random_module(seed, 60, seed % 4 != 0), reference, {});
  }
}

/// Moves what reaches the end of the device arena by `bytes`, behind the planner's back.
void move_the_highest(Plan& plan, std::int64_t bytes) {
  const std::int64_t end = plan.arena(Space::device).bytes;
  for (std::size_t p = 0; p < plan.programs.size(); ++p) {
    const Graph& graph = plan.graph(static_cast<std::int32_t>(p));
    for (PlannedOperand& operand : plan.programs[p].operands) {
      if (!exists(operand.value) || operand.space != Space::device) continue;
      const std::int64_t size = extent_bytes(layout_of(graph, operand.value));
      if (align_up(operand.offset + size, plan.target.alignment(Space::device)) == end) {
        operand.offset += bytes;
      }
    }
  }
}

TEST(Executor, CountsTheAddressesThatKernelsWereHanded) {
  const ReferenceBackend reference;
  const StepModule module = random_module(3, 60, false);
  Plan plan = make_plan(module, reference, {});
  ThreadPool pool(1);
  const auto used = [&] {
    Executor executor(plan, reserve_arenas(plan, pool), pool);
    EXPECT_EQ(executor.used_peak(Space::device), 0) << "nothing was played";
    for (const std::int32_t program : {0, 1, 2, 3}) executor.play(program);
    return executor.used_peak(Space::device);
  };
  EXPECT_EQ(used(), plan.arena(Space::device).bytes);
  move_the_highest(plan, -64);
  EXPECT_LT(used(), plan.arena(Space::device).bytes);
}

TEST(Executor, RefusesAnAddressOutsideTheArenas) {
  const ReferenceBackend reference;
  const StepModule module = random_module(3, 60, false);
  Plan plan = make_plan(module, reference, {});
  ThreadPool pool(1);
  move_the_highest(plan, 64);
  EXPECT_THROW(Executor(plan, reserve_arenas(plan, pool), pool), InternalError);
}

TEST(Executor, WaitsForSlowCopies) {
  PatchedBackend source;
  source.replace({.name = "slow", .op = Op::copy_start, .run = [](const KernelCall& call) {
                    std::this_thread::sleep_for(std::chrono::milliseconds(1));
                    std::copy_n(call.inputs[0].data, call.inputs[0].layout.type.bytes(),
                                call.outputs[0].data);
                  }});
  for (unsigned seed = 0; seed < 3; ++seed) {
    SCOPED_TRACE(seed);
    expect_same_as_interpreter(random_module(seed, 50, true), source, {});
  }
}

TEST(Executor, WatchedAndPoisonedRunsComputeTheSame) {
  const ReferenceBackend reference;
  for (unsigned seed = 0; seed < 6; ++seed) {
    SCOPED_TRACE(seed);
    expect_same_as_interpreter(random_module(seed, 40, true), reference,
                               {.debug = {.watch_writes = true, .poison_dead = true}});
  }
}

TEST(Executor, AllocatesNothingWhilePlaying) {
  const StepModule module = random_module(1, 60, true);
  const Plan plan = make_plan(module, ReferenceBackend(), {});
  ThreadPool pool(2);
  Executor executor(plan, reserve_arenas(plan, pool), pool, {.profile = true});
  for (const std::int32_t program : {1, 2, 3}) executor.play(program);
  const std::int64_t before = allocation_count();
  for (const std::int32_t program : {0, 1, 2, 2, 3}) executor.play(program);
  EXPECT_EQ(allocation_count() - before, 0);
}

/// y = (x + x) + 1 * w: one addition, one scale, one addition.
StepModule small_module() {
  StepModule module;
  Graph graph("small");
  Builder builder(graph);
  const TensorType type{DType::f32, {RandomProgram::kElements}};
  const ValueId x = builder.input("input/x", type, Role::input, Scope::call);
  const ValueId w = builder.input("w", type, Role::weight, Scope::run);
  const ValueId a = builder.one(Op::add, {x, x}, {}, "a");
  const ValueId b = builder.one(Op::scale, {w}, {{"factor", 1.0}}, "b");
  graph.outputs.push_back(builder.one(Op::add, {a, b}, {}, "y"));
  module.programs.push_back({"small", std::move(graph)});
  return module;
}

class SmallModule : public testing::Test {
 protected:
  /// Plays the module with an addition of another kind.
  std::string complaint(void (*add)(const KernelCall&), std::int64_t (*grant)(const KernelQuery&)) {
    PatchedBackend source;
    source.replace({.name = "bad_add", .op = Op::add, .grant = grant, .run = add});
    const Plan plan = make_plan(module_, source, {});
    Executor executor(plan, reserve_arenas(plan, pool_), pool_, {.debug = {.watch_writes = true}});
    try {
      executor.play(0);
    } catch (const InternalError& error) {
      return error.what();
    }
    return "";
  }

  StepModule module_ = small_module();
  ThreadPool pool_{2};
  static constexpr auto kCount = RandomProgram::kElements;
};

TEST_F(SmallModule, AGoodKernelPassesTheWatch) {
  EXPECT_EQ(complaint([](const KernelCall& call) { add_numbers(call, kCount); }, nullptr), "");
}

TEST_F(SmallModule, AByteWrittenOutsideIsFound) {
  EXPECT_THAT(complaint(
                  [](const KernelCall& call) {
                    add_numbers(call, kCount);
                    *const_cast<float*>(call.inputs[0].as<float>()) += 1;
                  },
                  nullptr),
              HasSubstr("outside its outputs"));
}

TEST_F(SmallModule, AnUnwrittenByteIsFound) {
  EXPECT_THAT(complaint([](const KernelCall& call) { add_numbers(call, kCount - 1); }, nullptr),
              HasSubstr("unwritten"));
}

TEST_F(SmallModule, ResultsThatDependOnScratchAreFound) {
  EXPECT_THAT(complaint(
                  [](const KernelCall& call) {
                    add_numbers(call, kCount);
                    call.outputs[0].as<float>()[3] = static_cast<float>(call.scratch[0]);
                  },
                  [](const KernelQuery&) -> std::int64_t { return 64; }),
              HasSubstr("depends on what"));
}

TEST_F(SmallModule, PoisonShowsAUseAfterDeath) {
  StepModule module;
  Graph graph("dies");
  Builder builder(graph);
  const TensorType type{DType::f32, {kCount}};
  const ValueId x = builder.input("input/x", type, Role::input, Scope::call);
  const ValueId w = builder.input("w", type, Role::weight, Scope::run);
  const ValueId a = builder.one(Op::add, {x, x}, {}, "a");
  graph.outputs.push_back(builder.one(Op::add, {a, w}, {}, "y"));  // takes a's place
  module.programs.push_back({"dies", std::move(graph)});
  Plan plan = make_plan(module, ReferenceBackend(), {});
  for (const bool broken : {false, true}) {
    ProgramPlan& program = plan.programs[0];
    if (broken) {  // the second addition reads x again, which died at the first
      const auto first = static_cast<std::size_t>(program.instructions[0].first_operand);
      const auto second = static_cast<std::size_t>(program.instructions[1].first_operand);
      program.operands[second] = program.operands[first];
    }
    for (const bool poison : {false, true}) {
      Executor executor(plan, reserve_arenas(plan, pool_), pool_,
                        {.debug = {.poison_dead = poison}});
      executor.play(0);
      EXPECT_EQ(std::isnan(executor.value<float>(0, "y")[0]), broken && poison);
    }
  }
}

TEST_F(SmallModule, ValuesAreTyped) {
  const Plan plan = make_plan(module_, ReferenceBackend(), {});
  Executor executor(plan, reserve_arenas(plan, pool_), pool_);
  EXPECT_THROW(executor.value<double>("w"), InternalError);
  EXPECT_THROW(executor.value<float>("nobody"), InternalError);
  EXPECT_EQ(executor.value<float>("w").size(), static_cast<std::size_t>(kCount));
}

TEST_F(SmallModule, ProfileCountsByOp) {
  const Plan plan = make_plan(module_, ReferenceBackend(), {});
  Executor executor(plan, reserve_arenas(plan, pool_), pool_, {.profile = true});
  executor.play(0);
  executor.play(0);
  std::map<Op, std::int64_t> calls;
  for (const OpTime& row : executor.profile()) calls[row.op] = row.calls;
  EXPECT_EQ(calls, (std::map<Op, std::int64_t>{{Op::add, 4}, {Op::scale, 2}}));
  executor.reset_profile();
  EXPECT_TRUE(executor.profile().empty());
}

TEST_F(SmallModule, EqualNodesShareWhatIsPrepared) {
  struct Counted final : Prepared {};
  static int prepared = 0;
  prepared = 0;
  PatchedBackend source;
  source.replace({.name = "prepares",
                  .op = Op::add,
                  .prepare = [](const KernelQuery& query) -> std::unique_ptr<Prepared> {
                    EXPECT_EQ(query.inputs.size(), 2U);
                    ++prepared;
                    return std::make_unique<Counted>();
                  },
                  .run =
                      [](const KernelCall& call) {
                        EXPECT_NE(call.prepared, nullptr);
                        add_numbers(call, kCount);
                      }});
  const Plan plan = make_plan(module_, source, {});
  Executor executor(plan, reserve_arenas(plan, pool_), pool_);
  executor.play(0);
  EXPECT_EQ(prepared, 1);
}

TEST(Executor, AnErrorOnACopyLaneEndsThePlayAndTheNextOneWorks) {
  static std::atomic<bool> fail{true};
  fail = true;
  PatchedBackend source;
  source.replace({.name = "fails", .op = Op::copy_start, .run = [](const KernelCall& call) {
                    if (fail) user_error("the disk is gone");
                    std::copy_n(call.inputs[0].data, call.inputs[0].layout.type.bytes(),
                                call.outputs[0].data);
                  }});
  const StepModule module = random_module(5, 60, true);
  const Plan plan = make_plan(module, source, {});
  ThreadPool pool(2);
  Executor executor(plan, reserve_arenas(plan, pool), pool);
  EXPECT_THROW(executor.play(1), UserError);
  fail = false;
  executor.play(1);
  executor.play(2);
}

}  // namespace
}  // namespace snug
