#include "backend/cuda/bodies_eights.h"
#include "backend/cuda/present/launch.cuh"

namespace snug::cuda {
#include "backend/cuda/instances_eights.inc"
}  // namespace snug::cuda
