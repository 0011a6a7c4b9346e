#pragma once
// The reference back end: every op in plain loops, sums in double, one thread. It says what the
// results are; all other back ends are tested against it.

#include <array>
#include <vector>

#include "plan/kernel.h"

namespace snug {

/// One kernel for every op that runs. They take any element types and row strides, and outputs that
/// lie on the operands the op table lets them share. Label, id and position operands are checked
/// against their tables (InternalError).
class ReferenceBackend final : public KernelSource {
 public:
  ReferenceBackend();
  std::span<const Kernel* const> kernels(Op op) const override;

 private:
  std::array<std::vector<const Kernel*>, static_cast<std::size_t>(Op::count_)> by_op_;
};

}  // namespace snug
