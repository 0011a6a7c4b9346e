#pragma once
// The CPU back end: vectorised, threaded kernels, the reference last.

#include <array>
#include <vector>

#include "backend/reference/reference.h"
#include "plan/kernel.h"

namespace snug {

class CpuBackend final : public KernelSource {
 public:
  CpuBackend();
  std::span<const Kernel* const> kernels(Op op) const override;

 private:
  ReferenceBackend reference_;
  std::array<std::vector<const Kernel*>, static_cast<std::size_t>(Op::count_)> by_op_;
};

}  // namespace snug
