#include "backend/cuda/bodies_loss.h"
#include "backend/cuda/bodies_rows.h"
#include "backend/cuda/present/launch.cuh"

namespace snug::cuda {
#include "backend/cuda/instances_rows.inc"
}  // namespace snug::cuda
