#include "backend/backend.h"

#include <fmt/format.h>
#include <hwy/highway.h>

#include <algorithm>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/isa.h"
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

}  // namespace

Target make_target(const DeviceSettings& settings) {
  return {.backend = settings.kind == DeviceKind::reference ? "reference" : "cpu",
          .isa = std::min(detect_isa(), highest_isa(settings.instruction_set)),
          .threads = thread_count(settings),
          .libraries = library_versions()};
}

std::unique_ptr<KernelSource> make_backend(const Target& target) {
  if (target.backend == "reference") return std::make_unique<ReferenceBackend>();
  check(target.backend == "cpu", "there is no back end '{}'", target.backend);
  cap_isa(target.isa);
  return std::make_unique<CpuBackend>();
}

}  // namespace snug
