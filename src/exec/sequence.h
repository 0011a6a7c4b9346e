#pragma once
// Programs ready to be played. They hold all that playing needs, in little space: a graph and its
// plan's operands may go once its sequence is there (plan/keep_ports.h).

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "exec/arena.h"
#include "plan/plan.h"

namespace snug {

/// One instruction that runs a kernel, or only waits.
struct Step {
  const Kernel* kernel = nullptr;  ///< nullptr: waits only
  const Attributes* attributes = nullptr;
  const Prepared* prepared = nullptr;
  std::span<const Operand> inputs;
  std::span<const Operand> outputs;
  std::span<std::byte> scratch;
  std::span<const Wait> waits;
  /// End of the highest byte handed over, by space, as the operands' own addresses give it; rounded
  /// up to the alignment.
  std::array<std::int64_t, kSpaces> highest{};
  std::int32_t index = -1;  ///< of the instruction
  Op op{};
  Phase phase = Phase::forward;
  Lane lane = Lane::compute;

  void run(ThreadPool& pool, void* queue = nullptr) const {
    if (kernel == nullptr) return;
    kernel->run({*attributes, inputs, outputs, scratch, prepared, pool, queue});
  }
};

/// What the sequences of a plan share: equal layouts and attributes once.
struct SequenceParts {
  std::vector<std::unique_ptr<Prepared>> prepared;  ///< what kernels prepare, one a choice
  std::vector<OperandLayout> layouts;
  std::vector<std::unique_ptr<const Attributes>> attributes;
  std::array<std::byte*, kSpaces> arenas{};
  std::array<std::int64_t, kSpaces> alignment{};
};

/// One program.
class Sequence {
 public:
  /// Steps in list order, without instructions that neither run nor wait.
  std::size_t size() const { return steps_.size(); }
  /// A step with real addresses. Its operands lie in `operands`, which has room for
  /// Sequences::most_operands() and is overwritten.
  Step step(std::size_t index, std::span<Operand> operands) const;
  /// The instruction of a step, and what it waits for.
  std::int32_t instruction(std::size_t index) const { return steps_[index].index; }
  std::span<const Wait> waits(std::size_t index) const;
  /// The steps of a lane, in order: what step() takes.
  std::span<const std::int32_t> lane(Lane lane) const {
    return lanes_[static_cast<std::size_t>(lane)];
  }
  bool compute_only() const { return compute_only_; }
  /// Highest address of any step, by the plan.
  std::int64_t highest(Space space) const { return highest_[static_cast<std::size_t>(space)]; }

 private:
  friend class SequenceBuilder;
  friend class Sequences;
  /// Sets what each step hands over, from the operands' real addresses.
  void measure(const Arenas& arenas, std::span<Operand> operands);
  struct StoredOperand {
    std::int64_t offset = -1;  ///< in the arena; -1: absent
    std::uint32_t layout = 0;  ///< index into SequenceParts::layouts
    Space space = Space::device;
  };
  struct StoredStep {
    const Kernel* kernel = nullptr;
    const Attributes* attributes = nullptr;
    const Prepared* prepared = nullptr;
    std::int64_t scratch_offset = 0;
    std::int64_t scratch_bytes = 0;
    std::array<std::int64_t, kSpaces> highest{};
    std::uint32_t first_operand = 0;
    std::uint32_t first_wait = 0;
    std::int32_t inputs = 0;
    std::int32_t outputs = 0;
    std::int32_t waits = 0;
    std::int32_t index = -1;
    Op op{};
    Phase phase = Phase::forward;
    Lane lane = Lane::compute;
  };

  const SequenceParts* parts_ = nullptr;
  std::vector<StoredOperand> operands_;
  std::vector<StoredStep> steps_;
  std::vector<Wait> waits_;
  std::array<std::vector<std::int32_t>, kLanes> lanes_;
  std::array<std::int64_t, kSpaces> highest_{};
  bool compute_only_ = true;
};

/// All programs of a plan, with what their kernels prepared.
class Sequences {
 public:
  /// Prepares every kernel. The plan is read here and not kept; its kernels must outlive this.
  explicit Sequences(const Plan& plan);

  /// Where the addresses begin: before the first step() that is run. InternalError where one of
  /// them then lies in no arena.
  void set_arenas(const Arenas& arenas);

  std::size_t size() const { return programs_.size(); }
  const Sequence& operator[](std::size_t program) const { return programs_[program]; }
  auto begin() const { return programs_.begin(); }
  auto end() const { return programs_.end(); }
  std::size_t most_operands() const { return most_operands_; }

 private:
  std::unique_ptr<SequenceParts> parts_;
  std::vector<Sequence> programs_;
  std::size_t most_operands_ = 0;
};

}  // namespace snug
