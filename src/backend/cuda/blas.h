#pragma once
// Matrix products by a library, with descriptors and algorithms kept from call to call.

#include <memory>
#include <string>
#include <vector>

#include "backend/cuda/bodies_products.h"
#include "plan/target.h"

namespace snug::cuda {

class Blas {
 public:
  virtual ~Blas() = default;
  /// Queues the product: x and w of one type and one batch, c in that type or fp32, c.acc absent or
  /// in c's type, c rounded to nearest. `workspace` is all the scratch that the library may use;
  /// where it has no algorithm that is content with it, the plain kernel runs.
  virtual void run(void* queue, const Product& product, std::span<std::byte> workspace) = 0;
  /// The products so far that had no algorithm, a line each.
  virtual std::vector<std::string> refused() const = 0;
};

/// The library of a lane's queue, for the lane's own thread; in a build without CUDA the plain
/// product, for tests.
Blas& library_of(void* queue);

/// The workspace that NVIDIA advises for a card: 32 MiB on Hopper, 4 MiB elsewhere.
std::int64_t blas_workspace(const Card& card);

}  // namespace snug::cuda
