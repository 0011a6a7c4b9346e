#pragma once
// A program with real addresses, ready to be played.

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

/// What kernels prepare, one a choice of the plan.
using PreparedChoices = std::vector<std::unique_ptr<Prepared>>;
PreparedChoices prepare_choices(const Plan& plan);

class Sequence {
 public:
  /// All arguments must outlive the sequence.
  Sequence(const Plan& plan, std::int32_t program, const Arenas& arenas,
           const PreparedChoices& prepared);
  Sequence(Sequence&&) = default;

  /// In list order, without instructions that neither run nor wait.
  std::span<const Step> steps() const { return steps_; }
  /// The steps of a lane, in order: indices into steps().
  std::span<const std::int32_t> lane(Lane lane) const {
    return lanes_[static_cast<std::size_t>(lane)];
  }
  bool compute_only() const { return compute_only_; }

 private:
  std::vector<Operand> operands_;
  std::vector<Step> steps_;
  std::array<std::vector<std::int32_t>, kLanes> lanes_;
  bool compute_only_ = true;
};

}  // namespace snug
