#include "backend/cuda/bodies_adafactor.h"
#include "backend/cuda/present/launch.cuh"

namespace snug::cuda {
#include "backend/cuda/instances_update.inc"
}  // namespace snug::cuda
