#pragma once
// Matrix products by a library, with descriptors and algorithms kept from call to call.

#include <memory>

#include "backend/cuda/bodies_products.h"
#include "plan/kernel.h"

namespace snug::cuda {

class Blas : public Prepared {
 public:
  /// Queues the product: x and w of one type and one batch, c in that type or fp32, c.acc absent or
  /// in c's type, c rounded to nearest. `workspace` is all the scratch that the library may use;
  /// where it has no algorithm that is content with it, the plain kernel runs.
  virtual void run(void* queue, const Product& product, std::span<std::byte> workspace) const = 0;
};

/// cuBLASLt, found when first made (UserError when this machine has none); in a build without CUDA
/// the plain product, for tests.
std::unique_ptr<Blas> make_blas();

/// The workspace that NVIDIA advises for a card: 32 MiB on Hopper, 4 MiB elsewhere.
std::int64_t blas_workspace(const Card& card);

}  // namespace snug::cuda
