// A build without CUDA: what needs a card says so.

#include "backend/cuda/probe.h"
#include "backend/device.h"
#include "core/error.h"

namespace snug {
namespace {

constexpr const char* kAbsent =
    "device=cuda needs a build with CUDA, and this one is without. Build it with ./dev build "
    "--cuda; to plan for a card that is elsewhere, name it: `snug plan device=cuda "
    "device_profile=rtx4090`.";

}  // namespace

Card cuda::probe_card() { user_error("{}", kAbsent); }

std::unique_ptr<Device> cuda::open_card(const Target&) { user_error("{}", kAbsent); }

}  // namespace snug
