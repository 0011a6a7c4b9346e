#include "backend/backend.h"

#include <fmt/format.h>
#include <hwy/highway.h>

#include <algorithm>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/isa.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/known_cards.h"
#include "backend/cuda/probe.h"
#include "backend/host_threads.h"
#include "backend/reference/reference.h"
#include "core/error.h"

namespace snug {
namespace {

Isa highest_isa(InstructionSet cap) {
  switch (cap) {
    case InstructionSet::avx2:
      return Isa::avx2;
    case InstructionSet::avx512:
      return Isa::avx512;
    case InstructionSet::avx512_bf16:
      return Isa::avx512_bf16;
    case InstructionSet::amx:
    case InstructionSet::automatic:
      return Isa::amx;
  }
  internal_error("instruction set {} is not known", static_cast<int>(cap));
}

int thread_count(const DeviceSettings& settings) {
  if (settings.threads) return static_cast<int>(*settings.threads);
  const int affinity = affinity_threads();
  return std::min(affinity, quota_threads().value_or(affinity));
}

std::string library_versions() {
  return fmt::format("Highway {}.{}.{}", HWY_MAJOR, HWY_MINOR, HWY_PATCH);
}

std::string backend_name(const DeviceSettings& settings) {
  switch (settings.kind) {
    case DeviceKind::reference:
      return "reference";
    case DeviceKind::cuda:
      return "cuda";
    case DeviceKind::automatic:
      if (settings.profile) return "cuda";
      return "cpu";
    case DeviceKind::cpu:
      break;
  }
  if (settings.profile) {
    user_error("device_profile={} is of a card. Set device=cuda, or leave it out.",
               *settings.profile);
  }
  return "cpu";
}

/// The profile's card, or the one of this machine, with what was measured on such a card.
Card card_for(const DeviceSettings& settings) {
  const auto file = cuda::known_cards_file();
  if (!settings.profile) {
    const Card card = cuda::probe_card();
    cuda::remember_overhead(file, card);
    return card;
  }
  Card card = card_from_profile(*settings.profile);
  if (const auto bytes = cuda::remembered_overhead(file, card)) {
    card.overhead_bytes = *bytes;
    card.measured = true;
  }
  return card;
}

}  // namespace

Target make_target(const DeviceSettings& settings) {
  Target target{.backend = backend_name(settings),
                .isa = std::min(detect_isa(), highest_isa(settings.instruction_set)),
                .threads = thread_count(settings),
                .libraries = library_versions(),
                .card = {}};
  if (target.backend == "cuda") target.card = card_for(settings);
  return target;
}

std::unique_ptr<KernelSource> make_backend(const Target& target) {
  if (target.backend == "reference") return std::make_unique<ReferenceBackend>();
  if (target.backend == "cuda") return std::make_unique<CudaBackend>();
  check(target.backend == "cpu", "there is no back end '{}'", target.backend);
  cap_isa(target.isa);
  return std::make_unique<CpuBackend>();
}

std::unique_ptr<Device> open_device(const Target& target) {
  if (target.backend != "cuda") return nullptr;
  return cuda::open_card(target);
}

}  // namespace snug
