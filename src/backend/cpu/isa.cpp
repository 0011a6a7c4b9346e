#include "backend/cpu/isa.h"

#include <cpuid.h>
#include <hwy/targets.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstddef>

#include "core/error.h"

namespace snug {
namespace {

enum Register : std::size_t { eax, ebx, ecx, edx };

// One bit of CPUID leaf 7 (Intel SDM, volume 2A, CPUID).
bool leaf7_bit(unsigned subleaf, Register reg, unsigned bit) {
  std::array<unsigned, 4> r{};
  if (__get_cpuid_count(7, subleaf, &r[eax], &r[ebx], &r[ecx], &r[edx]) == 0) return false;
  return ((r[reg] >> bit) & 1U) != 0;
}

// Linux hands the tile registers to processes that ask (Documentation/arch/x86/xstate.rst).
bool permit_tiles() {
  constexpr long kRequestPermission = 0x1023;
  constexpr long kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

std::optional<Isa> isa_from_name(std::string_view name) {
  for (const Isa isa : {Isa::avx2, Isa::avx512, Isa::avx512_bf16, Isa::amx}) {
    if (name_of(isa) == name) return isa;
  }
  return std::nullopt;
}

Isa detect_isa() {
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
    user_error(
        "this CPU has no AVX2. snug needs an x86-64 CPU with AVX2 (Intel from 2013, AMD from "
        "2015)");
  }
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512cd");
  if (!avx512) return Isa::avx2;
  const bool bf16 = leaf7_bit(1, eax, 5);
  if (!bf16) return Isa::avx512;
  const bool amx = leaf7_bit(0, edx, 22) && leaf7_bit(0, edx, 24);
  return amx && permit_tiles() ? Isa::amx : Isa::avx512_bf16;
}

void cap_isa(Isa isa) {
  if (isa != Isa::avx2) return;
  constexpr std::int64_t kBetter = HWY_AVX2 - 1;  // Highway numbers the best x86 target lowest
  hwy::DisableTargets(kBetter);
}

}  // namespace snug
