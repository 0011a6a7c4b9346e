#include "plan/waits.h"

#include <algorithm>

#include "plan/accesses.h"
#include "plan/address_map.h"

namespace snug {
namespace {

/// For each lane its last instruction that is known to have finished; -1: none.
using Clock = std::array<std::int32_t, kLanes>;
constexpr Clock kNever = {-1, -1, -1, -1, -1};

struct LastTouch {
  std::int32_t writer = -1;
  Lane writer_lane = Lane::compute;
  Clock readers = kNever;  ///< since that write
};

std::size_t at(Lane lane) { return static_cast<std::size_t>(lane); }

class WaitFinder {
 public:
  WaitFinder(const Graph& graph, ProgramPlan& program) : graph_(graph), program_(program) {
    finished_.resize(program.instructions.size(), kNever);
    lanes_.fill(kNever);
  }

  void run() {
    for (std::size_t i = 0; i < program_.instructions.size(); ++i) {
      const auto index = static_cast<std::int32_t>(i);
      Instruction& instruction = program_.instructions[i];
      if (instruction.inputs + instruction.outputs == 0 && instruction.scratch_bytes == 0) continue;
      emit(index, instruction, needs(index, instruction));
    }
  }

 private:
  Clock needs(std::int32_t index, const Instruction& instruction) {
    Clock need = kNever;
    accesses_of(graph_, program_, instruction, accesses_);
    for (const Access& access : accesses_) {
      auto& map = touched_[static_cast<std::size_t>(access.space)];
      map.over(access.low, access.high, [&](LastTouch& last) {
        if (last.writer >= 0) raise(need, last.writer_lane, last.writer);
        if (access.writes) {
          for (std::size_t lane = 0; lane < kLanes; ++lane) {
            raise(need, static_cast<Lane>(lane), last.readers[lane]);
          }
        } else {
          last.readers[at(instruction.lane)] = index;
        }
      });
      if (access.writes) map.assign(access.low, access.high, {index, instruction.lane, kNever});
    }
    return need;
  }

  /// Emits the needed waits that neither the lane's past nor another needed wait implies.
  void emit(std::int32_t index, Instruction& instruction, const Clock& need) {
    Clock& past = lanes_[at(instruction.lane)];
    Clock known = past;
    instruction.first_wait = static_cast<std::int32_t>(program_.waits.size());
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      if (lane == at(instruction.lane) || need[lane] <= past[lane]) continue;
      const Clock& after = finished_[static_cast<std::size_t>(need[lane])];
      merge(known, after);
      if (implied(lane, instruction.lane, need, past)) continue;
      program_.waits.push_back({static_cast<Lane>(lane), need[lane]});
      ++instruction.waits;
    }
    past = known;
    past[at(instruction.lane)] = index;
    finished_[static_cast<std::size_t>(index)] = past;
  }

  bool implied(std::size_t lane, Lane own, const Clock& need, const Clock& past) const {
    for (std::size_t other = 0; other < kLanes; ++other) {
      if (other == lane || other == at(own) || need[other] <= past[other]) continue;
      if (finished_[static_cast<std::size_t>(need[other])][lane] >= need[lane]) return true;
    }
    return false;
  }

  static void raise(Clock& clock, Lane lane, std::int32_t to) {
    clock[at(lane)] = std::max(clock[at(lane)], to);
  }
  static void merge(Clock& into, const Clock& from) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) into[lane] = std::max(into[lane], from[lane]);
  }

  const Graph& graph_;
  ProgramPlan& program_;
  std::vector<Clock> finished_;  ///< what is known once an instruction has finished
  std::array<Clock, kLanes> lanes_{};
  std::array<AddressMap<LastTouch>, kSpaces> touched_;
  std::vector<Access> accesses_;
};

}  // namespace

void compute_waits(const Graph& graph, ProgramPlan& program) {
  program.waits.clear();
  for (Instruction& instruction : program.instructions) instruction.waits = 0;
  const bool one_lane = std::all_of(
      program.instructions.begin(), program.instructions.end(),
      [&](const Instruction& i) { return i.lane == program.instructions.front().lane; });
  if (!one_lane) WaitFinder(graph, program).run();
}

}  // namespace snug
