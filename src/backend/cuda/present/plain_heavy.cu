#include "backend/cuda/bodies_attention.h"
#include "backend/cuda/bodies_products.h"
#include "backend/cuda/present/launch.cuh"

namespace snug::cuda {
#include "backend/cuda/instances_heavy.inc"
}  // namespace snug::cuda
