#pragma once
// Products on cuBLASLt.

#include <memory>

#include "backend/cuda/blas.h"

namespace snug::cuda {

/// One handle, with descriptors and algorithms by shape. UserError when this machine has no cuBLAS.
std::unique_ptr<Blas> make_blas();

}  // namespace snug::cuda
