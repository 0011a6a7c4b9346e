#pragma once
// The CUDA back end at plan time: which kernels there are, what they need and what they refuse. It
// is host code, the same in every build, so that a plan for a card can be made anywhere; what runs
// the kernels is behind each() and teams() (portable.h), products.h and Device.

#include <array>
#include <vector>

#include "plan/kernel.h"

namespace snug {

class CudaBackend final : public KernelSource {
 public:
  /// All kernels, or only those of any shape and card that a host can run for tests.
  enum class Kernels { all, plain };
  explicit CudaBackend(Kernels kernels = Kernels::all);
  std::span<const Kernel* const> kernels(Op op) const override;

 private:
  std::array<std::vector<const Kernel*>, static_cast<std::size_t>(Op::count_)> by_op_;
};

}  // namespace snug
