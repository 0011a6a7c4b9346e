#include "backend/reference/reference.h"

#include "backend/reference/kernels.h"

namespace snug {

ReferenceBackend::ReferenceBackend() {
  for (const auto kernels : {reference::arithmetic(), reference::movement(), reference::products(),
                             reference::packed_products(), reference::norms(),
                             reference::attentions(), reference::adapters(), reference::losses(),
                             reference::steps(), reference::updates(), reference::adafactors()}) {
    for (const Kernel& kernel : kernels) {
      by_op_[static_cast<std::size_t>(kernel.op)].push_back(&kernel);
    }
  }
}

std::span<const Kernel* const> ReferenceBackend::kernels(Op op) const {
  return by_op_[static_cast<std::size_t>(op)];
}

}  // namespace snug
