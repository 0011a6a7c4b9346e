#include "plan/verify_plan.h"

#include <algorithm>

#include "plan/accesses.h"
#include "plan/address_map.h"
#include "plan/placement.h"

namespace snug {
namespace {

using Clock = std::array<std::int32_t, kLanes>;
constexpr Clock kNever = {-1, -1, -1, -1, -1};
constexpr std::int32_t kNoOwner = -1;

/// What lies at an address, who wrote it and who has read it since.
struct Content {
  std::int32_t owner = kNoOwner;
  std::int32_t writer = -1;  ///< -1: before the program
  Lane writer_lane = Lane::compute;
  Clock readers = kNever;
};

std::size_t at(Lane lane) { return static_cast<std::size_t>(lane); }
std::size_t at(Space space) { return static_cast<std::size_t>(space); }

/// What every program finds and leaves: values of the run, by address.
using Lasting = std::array<std::vector<AddressMap<Content>::Piece>, kSpaces>;

Lasting lasting_of(const Plan& plan) {
  Lasting lasting;
  for (std::size_t r = 0; r < plan.roots.size(); ++r) {
    const Root& root = plan.roots[r];
    if (root.scope != Scope::run || root.bytes == 0) continue;
    lasting[at(root.space)].push_back(
        {root.offset, root.offset + root.bytes, {.owner = -2 - static_cast<std::int32_t>(r)}});
  }
  for (auto& pieces : lasting) {
    std::sort(pieces.begin(), pieces.end(),
              [](const auto& a, const auto& b) { return a.low < b.low; });
    for (std::size_t i = 1; i < pieces.size(); ++i) {
      check(pieces[i - 1].high <= pieces[i].low, "two values of the run overlap at {}",
            pieces[i].low);
    }
  }
  return lasting;
}

class ProgramVerifier {
  auto owner_name(std::int32_t owner) const {
    return Late{[this, owner]() -> std::string {
      if (owner == kScratchOwner) return "scratch";
      if (owner == kNoOwner) return "nothing";
      if (owner < 0) return plan_.roots[static_cast<std::size_t>(-2 - owner)].name;
      return graph_.value(program_.storages[static_cast<std::size_t>(owner)].root).name;
    }};
  }

  auto describe(std::int32_t index) const {
    return Late{[this, index] {
      return fmt::format("instruction {} ({})", index,
                         op_def(graph_.nodes[static_cast<std::size_t>(index)].op).name);
    }};
  }

 public:
  ProgramVerifier(const Plan& plan, const Lasting& lasting, std::int32_t index)
      : plan_(plan),
        name_(plan.module->programs[static_cast<std::size_t>(index)].name),
        graph_(plan.graph(index)),
        program_(plan.program(index)),
        known_(program_.instructions.size(), kNever) {
    lanes_.fill(kNever);
    for (std::size_t space = 0; space < kSpaces; ++space) {
      contents_[space] = AddressMap<Content>(lasting[space]);
    }
  }

  void run() {
    check(program_.instructions.size() == graph_.nodes.size(),
          "program '{}' has {} instructions for {} nodes", name_, program_.instructions.size(),
          graph_.nodes.size());
    check_storages();
    each_held(-1, [&](Space space, std::int64_t low, std::int64_t bytes, std::int32_t owner) {
      map(space).assign(low, low + bytes, {owner, -1, Lane::compute, kNever});
    });
    for (std::size_t i = 0; i < program_.instructions.size(); ++i) {
      const auto index = static_cast<std::int32_t>(i);
      advance_clock(index);
      accesses_of(graph_, program_, program_.instructions[i], accesses_);
      for (const Access& access : accesses_) check_access(index, access);
    }
    each_held(static_cast<std::int32_t>(graph_.nodes.size()),
              [&](Space space, std::int64_t low, std::int64_t bytes, std::int32_t owner) {
                map(space).over(low, low + bytes, [&](const Content& content) {
                  check(content.owner == owner, "program '{}' leaves '{}' where '{}' must survive",
                        name_, owner_name(content.owner), owner_name(owner));
                });
              });
    for (const AddressMap<Content>& contents : contents_) {
      contents.each_begun([&](const Content& now, const Content& began) {
        check(now.owner == began.owner, "program '{}' leaves '{}' where '{}' must survive", name_,
              owner_name(now.owner), owner_name(began.owner));
      });
    }
  }

 private:
  AddressMap<Content>& map(Space space) { return contents_[at(space)]; }

  void check_storages() {
    for (const Storage& storage : program_.storages) {
      const std::string& name = graph_.value(storage.root).name;
      check_place(name, storage.space, storage.offset, storage.bytes);
    }
    for (const Instruction& instruction : program_.instructions) {
      if (instruction.scratch_bytes == 0) continue;
      check_place("scratch", Space::device, instruction.scratch_offset, instruction.scratch_bytes);
    }
  }

  void check_place(const std::string& name, Space space, std::int64_t offset,
                   std::int64_t bytes) const {
    check(offset >= 0 && bytes >= 0 && offset + bytes <= plan_.arena(space).bytes,
          "program '{}': '{}' lies at {}..{} of an arena of {} bytes", name_, name, offset,
          offset + bytes, plan_.arena(space).bytes);
    check(offset % plan_.target.alignment(space) == 0, "program '{}': '{}' at {} is not aligned",
          name_, name, offset);
  }

  /// Storage alive before the program (instant -1) or after it (instant node count), but what lasts
  /// through the run.
  template <class Visit>
  void each_held(std::int32_t instant, Visit&& visit) {
    const std::int32_t now = program_.start + 1 + instant;
    for (std::size_t r = 0; r < plan_.roots.size(); ++r) {
      const Root& root = plan_.roots[r];
      if (root.scope == Scope::run || root.begin > now || root.end < now) continue;
      visit(root.space, root.offset, root.bytes, -2 - static_cast<std::int32_t>(r));
    }
    for (std::size_t s = 0; s < program_.storages.size(); ++s) {
      const Storage& storage = program_.storages[s];
      if (storage.begin > instant || storage.end < instant) continue;
      visit(storage.space, storage.offset, storage.bytes, static_cast<std::int32_t>(s));
    }
  }

  /// What is known to have finished when the instruction begins.
  void advance_clock(std::int32_t index) {
    const Instruction& instruction = program_.instructions[static_cast<std::size_t>(index)];
    Clock& now = lanes_[at(instruction.lane)];
    for (const Wait& wait : program_.waits_of(instruction)) {
      check(wait.instruction >= 0 && wait.instruction < index &&
                program_.instructions[static_cast<std::size_t>(wait.instruction)].lane == wait.lane,
            "program '{}': {} waits for instruction {} of lane {}", name_, describe(index),
            wait.instruction, name_of(wait.lane));
      const Clock& then = known_[static_cast<std::size_t>(wait.instruction)];
      for (std::size_t lane = 0; lane < kLanes; ++lane) now[lane] = std::max(now[lane], then[lane]);
      now[at(wait.lane)] = std::max(now[at(wait.lane)], wait.instruction);
    }
    known_[static_cast<std::size_t>(index)] = now;
    now[at(instruction.lane)] = index;
  }

  void check_access(std::int32_t index, const Access& access) {
    check_inside(index, access);
    const Lane lane = program_.instructions[static_cast<std::size_t>(index)].lane;
    map(access.space).over(access.low, access.high, [&](Content& content) {
      if (content.writer >= 0) check_after(index, content.writer, content.writer_lane);
      if (!access.writes) {
        check(content.owner == access.owner, "program '{}': {} reads '{}' where '{}' lies", name_,
              describe(index), owner_name(access.owner), owner_name(content.owner));
        content.readers[at(lane)] = index;
        return;
      }
      const bool own = content.writer == index || content.readers[at(lane)] == index;
      check(!own || content.owner == access.owner, "program '{}': {} writes '{}' over its own '{}'",
            name_, describe(index), owner_name(access.owner), owner_name(content.owner));
      for (std::size_t other = 0; other < kLanes; ++other) {
        if (content.readers[other] < 0) continue;
        check_after(index, content.readers[other], static_cast<Lane>(other));
      }
    });
    if (access.writes) {
      map(access.space).assign(access.low, access.high, {access.owner, index, lane, kNever});
    }
  }

  void check_inside(std::int32_t index, const Access& access) const {
    if (access.owner == kScratchOwner) return;  // check_storages saw it
    check(access.owner != kNoOwner, "program '{}': {} uses a value without storage", name_,
          describe(index));
    const auto local = static_cast<std::size_t>(access.owner);
    const auto root = static_cast<std::size_t>(-2 - access.owner);
    const bool is_root = access.owner < 0;
    const std::int64_t low = is_root ? plan_.roots[root].offset : program_.storages[local].offset;
    const std::int64_t bytes = is_root ? plan_.roots[root].bytes : program_.storages[local].bytes;
    const Space space = is_root ? plan_.roots[root].space : program_.storages[local].space;
    check(space == access.space && low <= access.low && access.high <= low + bytes,
          "program '{}': {} reaches beyond '{}'", name_, describe(index), owner_name(access.owner));
  }

  void check_after(std::int32_t index, std::int32_t earlier, Lane lane) const {
    const Instruction& instruction = program_.instructions[static_cast<std::size_t>(index)];
    if (lane == instruction.lane) return;
    check(known_[static_cast<std::size_t>(index)][at(lane)] >= earlier,
          "program '{}': {} does not wait for {} on lane {}, and they touch the same bytes", name_,
          describe(index), describe(earlier), name_of(lane));
  }

  const Plan& plan_;
  const std::string& name_;
  const Graph& graph_;
  const ProgramPlan& program_;
  std::vector<Clock> known_;  ///< finished on each lane when an instruction begins
  std::array<Clock, kLanes> lanes_{};
  std::array<AddressMap<Content>, kSpaces> contents_;
  std::vector<Access> accesses_;
};

}  // namespace

void verify_plan(const Plan& plan) {
  for (const Root& root : plan.roots) {
    check(root.offset >= 0 && root.offset + root.bytes <= plan.arena(root.space).bytes,
          "'{}' lies at {}..{} of an arena of {} bytes", root.name, root.offset,
          root.offset + root.bytes, plan.arena(root.space).bytes);
    check(root.offset % plan.target.alignment(root.space) == 0, "'{}' at {} is not aligned",
          root.name, root.offset);
  }
  const Lasting lasting = lasting_of(plan);
  for (std::size_t p = 0; p < plan.programs.size(); ++p) {
    ProgramVerifier(plan, lasting, static_cast<std::int32_t>(p)).run();
  }
}

}  // namespace snug
