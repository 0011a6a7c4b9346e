#pragma once
// The reference back end with single kernels replaced.

#include <map>
#include <vector>

#include "backend/reference/reference.h"

namespace snug {

class PatchedBackend final : public KernelSource {
 public:
  void replace(Kernel kernel) {
    kernels_[kernel.op] = kernel;
    lists_[kernel.op] = {&kernels_[kernel.op]};
  }
  std::span<const Kernel* const> kernels(Op op) const override {
    const auto it = lists_.find(op);
    return it == lists_.end() ? reference_.kernels(op) : std::span<const Kernel* const>(it->second);
  }

 private:
  ReferenceBackend reference_;
  std::map<Op, Kernel> kernels_;
  std::map<Op, std::vector<const Kernel*>> lists_;
};

inline void add_numbers(const KernelCall& call, std::int64_t count) {
  const float* a = call.inputs[0].as<float>();
  const float* b = call.inputs[1].as<float>();
  float* y = call.outputs[0].as<float>();
  for (std::int64_t i = 0; i < count; ++i) y[i] = a[i] + b[i];
}

}  // namespace snug
