#pragma once
// A null back end whose first kernel for add is picky and wants scratch.

#include <array>
#include <memory>
#include <optional>
#include <string>

#include "backend/null/null.h"

namespace snug {

/// Kernels for every op; those for add want scratch when the length divides by 32.
class ScratchKernels final : public KernelSource {
 public:
  ScratchKernels() {
    picky_ = {.name = "picky",
              .op = Op::add,
              .refuses = [](const KernelQuery& query) -> std::optional<std::string> {
                if (query.inputs[0].type.shape[0] % 32 == 0) return std::nullopt;
                return "only multiples of 32";
              },
              .grant = [](const KernelQuery&) -> std::int64_t { return 1000; },
              .run = [](const KernelCall&) {}};
    add_ = {&picky_, null_->kernels(Op::add).front()};
  }
  std::span<const Kernel* const> kernels(Op op) const override {
    return op == Op::add ? std::span<const Kernel* const>(add_) : null_->kernels(op);
  }

 private:
  std::unique_ptr<KernelSource> null_ = make_null_kernels();
  Kernel picky_;
  std::array<const Kernel*, 2> add_{};
};

}  // namespace snug
