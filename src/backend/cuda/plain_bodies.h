#pragma once
// Private to the CUDA back end: plain bodies of a call, for kernels that run them where they do not
// apply themselves.

#include "backend/cuda/bodies_elements.h"
#include "backend/cuda/bodies_products.h"
#include "backend/cuda/bodies_update.h"
#include "plan/kernel.h"

namespace snug::cuda {

/// Element i is the pair i.
Rope rope_of(const KernelCall& call);
AdamW adamw_of(const KernelCall& call);

}  // namespace snug::cuda
