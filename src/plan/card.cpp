#include "plan/card.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>

#include "core/error.h"
#include "core/text.h"

namespace snug {
namespace {

// Where a rate is from. What follows from clocks and widths is derived once more by a test.
constexpr std::string_view kPage = "the vendor's specification page";
constexpr std::string_view kDerived = "the vendor's clocks and widths";

constexpr std::array kProfiles = {
    CardProfile{"rtx3060", 86, 28, 12288, 360, 25.5, 12.7, kDerived},
    CardProfile{"rtx3080", 86, 68, 10240, 760.3, 59.5, 29.8, kDerived},
    CardProfile{"rtx3090", 86, 82, 24576, 936.2, 71.2, 35.6, kDerived},
    CardProfile{"rtx4060ti-16", 89, 34, 16380, 288, 44.1, 22.1, kDerived},
    CardProfile{"rtx4070", 89, 46, 12282, 504.2, 58.3, 29.1, kDerived},
    CardProfile{"rtx4080", 89, 76, 16376, 716.8, 97.5, 48.7, kDerived},
    CardProfile{"rtx4090", 89, 128, 24564, 1008, 165.2, 82.6, kDerived},
    CardProfile{"rtx5060ti-16", 120, 36, 16311, 448, 47.4, 23.7, kDerived},
    CardProfile{"rtx5080", 120, 84, 16303, 960, 112.6, 56.3, kDerived},
    CardProfile{"rtx5090", 120, 170, 32607, 1792, 209.5, 104.8, kDerived},
    CardProfile{"rtxpro6000", 120, 188, 97887, 1792, 503.8, 126, kDerived},
    CardProfile{"a10", 86, 72, 23028, 600, 125, 31.2, kDerived},
    CardProfile{"l4", 89, 58, 23034, 300, 121, 30.3, kDerived},
    CardProfile{"l40s", 89, 142, 46068, 864, 362, 91.6, kPage},
    CardProfile{"a100-40", 80, 108, 40960, 1555, 312, 19.5, kDerived},
    CardProfile{"a100-80", 80, 108, 81920, 2039, 312, 19.5, kDerived},
    CardProfile{"h100", 90, 132, 81559, 3350, 989.4, 67, kDerived},
    CardProfile{"h200", 90, 132, 143771, 4800, 989.4, 67, kDerived},
};

std::string plain(std::string_view name) {
  std::string text;
  for (const char c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0) {
      text += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
  }
  return text;
}

}  // namespace

std::int64_t shared_bytes_of(int compute) {
  constexpr std::int64_t kKibibyte = 1024;
  if (compute == 80 || compute == 87) return 163 * kKibibyte;
  if (compute >= 90 && compute < 120) return 227 * kKibibyte;
  return kSmallSharedBytes;
}

std::span<const CardProfile> card_profiles() { return kProfiles; }

Card card_from_profile(std::string_view name) {
  const std::string wanted = plain(name);
  const auto* const found = std::find_if(kProfiles.begin(), kProfiles.end(),
                                         [&](const auto& p) { return plain(p.name) == wanted; });
  if (found == kProfiles.end()) {
    std::string names;
    for (const CardProfile& profile : kProfiles) {
      names += fmt::format("{}{}", names.empty() ? "" : ", ", profile.name);
    }
    user_error("device_profile={}: no such profile. There are: {}.", name, names);
  }
  return {.name = std::string(found->name),
          .compute = found->compute,
          .multiprocessors = found->multiprocessors,
          .memory_bytes = std::int64_t{found->memory_mib} << 20,
          .shared_bytes = shared_bytes_of(found->compute),
          .bytes_per_second = found->gigabytes_s * 1e9,
          .half_flops = found->half_teraflops * 1e12,
          .float_flops = found->float_teraflops * 1e12,
          .overhead_bytes = kEstimatedOverhead,
          .measured = false};
}

const CardProfile* profile_of(const Card& card) {
  constexpr double kSlack = 0.02;  // drivers show some MiB more or less
  const auto memory = static_cast<double>(card.memory_bytes >> 20);
  const auto* const found =
      std::find_if(kProfiles.begin(), kProfiles.end(), [&](const CardProfile& profile) {
        return profile.compute == card.compute && profile.multiprocessors == card.multiprocessors &&
               std::abs(memory / profile.memory_mib - 1.0) < kSlack;
      });
  return found == kProfiles.end() ? nullptr : found;
}

std::string describe(const Card& card) {
  return fmt::format("{} · compute {}.{} · {} SMs · {}", card.name, card.compute / 10,
                     card.compute % 10, card.multiprocessors, binary_bytes(card.memory_bytes));
}

}  // namespace snug
