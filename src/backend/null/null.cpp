#include "backend/null/null.h"

#include <algorithm>

#include "plan/accesses.h"
#include "plan/address_map.h"
#include "plan/placement.h"

namespace snug {
namespace {

class NullKernels final : public KernelSource {
 public:
  NullKernels() {
    for (std::size_t op = 0; op < kOps; ++op) {
      kernels_[op] = {.name = "null", .op = static_cast<Op>(op), .run = [](const KernelCall&) {}};
      lists_[op] = &kernels_[op];
    }
  }
  std::span<const Kernel* const> kernels(Op op) const override {
    return {&lists_[static_cast<std::size_t>(op)], 1};
  }

 private:
  static constexpr auto kOps = static_cast<std::size_t>(Op::count_);
  std::array<Kernel, kOps> kernels_{};
  std::array<const Kernel*, kOps> lists_{};
};

/// Who wrote a byte last: the number of an instruction played, counted over the whole run; 0:
/// nobody, -1: whoever fills a program's inputs.
using Mark = std::int64_t;
constexpr Mark kOutside = -1;

struct Content {
  Mark mark = 0;
  std::int32_t program = -1;  ///< whose storage `owner` counts; -1: a root or never written
  std::int32_t owner = -1;
};

/// Arenas that hold marks instead of numbers.
class Machine {
 public:
  explicit Machine(const Plan& plan) : plan_(plan) {}

  void fill_inputs(std::int32_t program) {
    const ProgramPlan& planned = plan_.program(program);
    for (std::size_t s = 0; s < planned.storages.size(); ++s) {
      const Storage& storage = planned.storages[s];
      if (storage.begin >= 0) continue;
      contents_[static_cast<std::size_t>(storage.space)].assign(
          storage.offset, storage.offset + storage.bytes,
          {kOutside, program, static_cast<std::int32_t>(s)});
    }
  }

  /// Plays one instruction; returns the marks it read, folded into one number.
  std::uint64_t play(std::int32_t program, std::int32_t index, Mark mark) {
    const ProgramPlan& planned = plan_.program(program);
    accesses_of(plan_.graph(program), planned,
                planned.instructions[static_cast<std::size_t>(index)], accesses_);
    std::uint64_t read = 0;
    for (const Access& access : accesses_) {
      check_inside(program, access);
      auto& map = contents_[static_cast<std::size_t>(access.space)];
      const std::int32_t owner_program = access.owner <= -2 ? -1 : program;
      if (access.writes) {
        map.assign(access.low, access.high, {mark, owner_program, access.owner});
        continue;
      }
      Mark last = 0;
      map.over(access.low, access.high, [&](const Content& content) {
        check_owner(program, index, access, content);
        if (content.mark != last)
          read = (read ^ static_cast<std::uint64_t>(content.mark)) * 0x100000001b3ULL;
        last = content.mark;
      });
    }
    return read;
  }

  const std::array<std::int64_t, kSpaces>& used_peak() const { return used_peak_; }

 private:
  void check_inside(std::int32_t program, const Access& access) {
    const auto space = static_cast<std::size_t>(access.space);
    check(access.low >= 0 && access.high <= plan_.arenas[space].bytes,
          "program '{}' touches {}..{} of an arena of {} bytes", plan_.graph(program).name(),
          access.low, access.high, plan_.arenas[space].bytes);
    used_peak_[space] =
        std::max(used_peak_[space], align_up(access.high, plan_.target.alignment(access.space)));
  }

  void check_owner(std::int32_t program, std::int32_t index, const Access& access,
                   const Content& content) const {
    const bool root = access.owner <= -2;
    if (root && content.mark == 0) {
      const Root& value = plan_.roots[static_cast<std::size_t>(-2 - access.owner)];
      check(value.scope != Scope::step, "'{}' is read before the step wrote it", value.name);
      return;  // loaded from outside
    }
    check(content.owner == access.owner && content.program == (root ? -1 : program),
          "program '{}': instruction {} reads bytes that something else has overwritten",
          plan_.module->programs[static_cast<std::size_t>(program)].name, index);
  }

  const Plan& plan_;
  std::array<AddressMap<Content>, kSpaces> contents_;
  std::array<std::int64_t, kSpaces> used_peak_{};
  std::vector<Access> accesses_;
};

/// Instruction indices of a program in an order that its waits allow.
class LaneSchedule {
 public:
  LaneSchedule(const ProgramPlan& program, LaneOrder order) : program_(program), order_(order) {
    for (std::size_t i = 0; i < program.instructions.size(); ++i) {
      lanes_[static_cast<std::size_t>(program.instructions[i].lane)].push_back(
          static_cast<std::int32_t>(i));
    }
  }

  std::vector<std::int32_t> run() {
    std::vector<std::int32_t> result;
    result.reserve(program_.instructions.size());
    while (result.size() < program_.instructions.size()) {
      const std::int32_t index = next();
      check(index >= 0, "lanes wait for each other for ever");
      const Lane lane = program_.instructions[static_cast<std::size_t>(index)].lane;
      ++heads_[static_cast<std::size_t>(lane)];
      done_[static_cast<std::size_t>(lane)] = index;
      result.push_back(index);
    }
    return result;
  }

 private:
  bool ready(std::int32_t index) const {
    const Instruction& instruction = program_.instructions[static_cast<std::size_t>(index)];
    const auto waits = program_.waits_of(instruction);
    return std::all_of(waits.begin(), waits.end(), [&](const Wait& wait) {
      return done_[static_cast<std::size_t>(wait.lane)] >= wait.instruction;
    });
  }

  std::int32_t next() const {
    std::int32_t best = -1;
    for (std::size_t i = 0; i < kLanes; ++i) {
      const std::size_t lane = order_ == LaneOrder::compute_last ? kLanes - 1 - i : i;
      if (heads_[lane] >= lanes_[lane].size()) continue;
      const std::int32_t head = lanes_[lane][heads_[lane]];
      if (!ready(head)) continue;
      if (order_ != LaneOrder::list) return head;
      if (best < 0 || head < best) best = head;
    }
    return best;
  }

  const ProgramPlan& program_;
  LaneOrder order_;
  std::array<std::vector<std::int32_t>, kLanes> lanes_;
  std::array<std::size_t, kLanes> heads_{};
  std::array<std::int32_t, kLanes> done_ = {-1, -1, -1, -1, -1};
};

void merge(NullReport& into, const NullReport& from) {
  into.instructions += from.instructions;
  for (std::size_t s = 0; s < kSpaces; ++s) {
    into.used_peak[s] = std::max(into.used_peak[s], from.used_peak[s]);
  }
}

/// Every program outside the step, then steps of one and of two micro-batches for each bucket.
std::vector<ScriptCall> sample_calls(const StepModule& module) {
  const StepScript& script = module.script;
  std::vector<ScriptCall> calls;
  std::vector<bool> of_step(module.programs.size(), false);
  const auto belongs = [&](std::int32_t program) {
    if (program >= 0) of_step[static_cast<std::size_t>(program)] = true;
  };
  if (script.update >= 0) {
    belongs(script.update);
    for (const StepScript::Bucket& bucket : script.buckets) {
      belongs(bucket.first);
      belongs(bucket.next);
    }
  }
  for (std::size_t p = 0; p < of_step.size(); ++p) {
    if (!of_step[p]) calls.push_back({static_cast<std::int32_t>(p), -1});
  }
  if (script.update < 0) return calls;
  std::vector<ScriptCall> step;
  for (std::size_t b = 0; b < script.buckets.size(); ++b) {
    const StepScript::Bucket& bucket = script.buckets[b];
    if (bucket.first < 0) continue;
    for (const std::size_t slots : {std::size_t{1}, std::size_t{2}}) {
      if (slots > 1 && bucket.next < 0) continue;
      script.expand(std::vector<std::int32_t>(slots, static_cast<std::int32_t>(b)), step);
      calls.insert(calls.end(), step.begin(), step.end());
    }
  }
  return calls;
}

}  // namespace

std::unique_ptr<KernelSource> make_null_kernels() { return std::make_unique<NullKernels>(); }

NullReport play_null(const Plan& plan, std::span<const ScriptCall> calls, LaneOrder order) {
  Machine in_list_order(plan);
  Machine in_lane_order(plan);
  NullReport report;
  Mark first = 1;
  std::vector<std::uint64_t> expected;
  for (const ScriptCall& call : calls) {
    const ProgramPlan& program = plan.program(call.program);
    expected.clear();
    in_list_order.fill_inputs(call.program);
    in_lane_order.fill_inputs(call.program);
    for (std::size_t i = 0; i < program.instructions.size(); ++i) {
      const auto index = static_cast<std::int32_t>(i);
      expected.push_back(in_list_order.play(call.program, index, first + index));
    }
    for (const std::int32_t index : LaneSchedule(program, order).run()) {
      const std::uint64_t read = in_lane_order.play(call.program, index, first + index);
      check(read == expected[static_cast<std::size_t>(index)],
            "program '{}': instruction {} can run before what it depends on",
            plan.module->programs[static_cast<std::size_t>(call.program)].name, index);
    }
    first += static_cast<Mark>(program.instructions.size());
    report.instructions += static_cast<std::int64_t>(program.instructions.size());
  }
  report.used_peak = in_lane_order.used_peak();
  return report;
}

NullReport play_null(const Plan& plan) {
  const std::vector<ScriptCall> calls = sample_calls(*plan.module);
  NullReport report;
  for (const LaneOrder order :
       {LaneOrder::list, LaneOrder::compute_first, LaneOrder::compute_last}) {
    merge(report, play_null(plan, calls, order));
  }
  return report;
}

}  // namespace snug
