#pragma once
// NVIDIA cards as a plan sees them: data, so that a plan for a card can be made anywhere.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace snug {

struct Card {
  std::string name;                 ///< `rtx4090`; the driver's name for a card that is there
  int compute = 0;                  ///< compute capability: 89 is 8.9; 0: no card
  int multiprocessors = 0;          ///< SMs
  std::int64_t memory_bytes = 0;    ///< all that the driver shows
  std::int64_t shared_bytes = 0;    ///< shared memory that one block may take
  double bytes_per_second = 0;      ///< of its memory
  double half_flops = 0;            ///< dense bf16 products, sums in fp32
  double float_flops = 0;           ///< fp32 outside the tensor cores
  std::int64_t overhead_bytes = 0;  ///< what the driver's context and the libraries take
  bool measured = false;            ///< overhead_bytes was measured, now or before, not estimated
  bool present() const { return compute > 0; }
};

/// Shared memory that a kernel must be content with to run on every card.
inline constexpr std::int64_t kSmallSharedBytes = 99 << 10;
/// The estimate of what context and libraries take where nobody has measured it.
inline constexpr std::int64_t kEstimatedOverhead = std::int64_t{512} << 20;

/// Shared memory that one block may take by compute capability (CUDA C++ Programming Guide,
/// "Technical Specifications per Compute Capability").
std::int64_t shared_bytes_of(int compute);

/// A profile and where its figures are from.
struct CardProfile {
  std::string_view name;
  int compute;
  int multiprocessors;
  int memory_mib;      ///< as nvidia-smi shows it
  double gigabytes_s;  ///< decimal GB a second
  double half_teraflops;
  double float_teraflops;
  std::string_view source;  ///< of the rates; the memory is nvidia-smi's on such a card
};

std::span<const CardProfile> card_profiles();

/// The profile of that name; case, spaces, `-` and `_` do not count. UserError naming the nearest
/// names when there is none.
Card card_from_profile(std::string_view name);

/// The profile of a card that is there, by its figures, since names have too many spellings;
/// nullptr when there is none.
const CardProfile* profile_of(const Card& card);

/// `rtx4090 · compute 8.9 · 128 SMs · 23.99 GiB`
std::string describe(const Card& card);

}  // namespace snug
