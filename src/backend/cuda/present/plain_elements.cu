#include "backend/cuda/bodies_elements.h"
#include "backend/cuda/present/launch.cuh"

namespace snug::cuda {
#include "backend/cuda/instances_elements.inc"
}  // namespace snug::cuda
