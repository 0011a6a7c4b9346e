#pragma once
// What a build with CUDA and one without answer differently.

#include <memory>

#include "backend/device.h"

namespace snug::cuda {

/// The card of this machine. UserError when there is none, its driver is too old, or this build has
/// no CUDA.
Card probe_card();

/// Takes hold of it. UserError as above, or when it is not what the target was planned for.
std::unique_ptr<Device> open_card(const Target& target);

}  // namespace snug::cuda
