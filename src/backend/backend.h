#pragma once
// The back ends by name, and the target that a plan is made for on this machine.

#include <memory>

#include "core/settings.h"
#include "plan/kernel.h"
#include "plan/target.h"

namespace snug {

/// What `settings` ask for on this machine: the CPU's instruction set or the cap below it, threads
/// by affinity mask and control groups unless set, the libraries' versions; the card by its profile
/// or, without one, the card that is there (UserError when there is none).
Target make_target(const DeviceSettings& settings);

/// The kernels of a target's back end. Caps the instruction sets of the whole process at the
/// target's, so all targets of a process have the same one.
std::unique_ptr<KernelSource> make_backend(const Target& target);

}  // namespace snug
