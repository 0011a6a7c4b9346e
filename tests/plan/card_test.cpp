// Profiles of cards, and plans for them on a machine without any.

#include "plan/card.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <sstream>

#include "backend/cuda/cuda_backend.h"
#include "core/error.h"
#include "core/settings_load.h"
#include "model/shapes.h"
#include "passes/pipeline.h"
#include "plan/plan.h"

namespace snug {
namespace {

using testing::HasSubstr;

TEST(CardProfiles, AreComplete) {
  std::set<std::string_view> names;
  for (const CardProfile& profile : card_profiles()) {
    const Card card = card_from_profile(profile.name);
    EXPECT_TRUE(names.insert(profile.name).second) << profile.name;
    EXPECT_TRUE(card.present());
    EXPECT_GT(card.multiprocessors, 0) << card.name;
    EXPECT_GT(card.memory_bytes, std::int64_t{8} << 30) << card.name;
    EXPECT_GE(card.shared_bytes, kSmallSharedBytes) << card.name;
    EXPECT_GT(card.half_flops, card.float_flops) << card.name;
    EXPECT_GT(card.bytes_per_second, 1e11) << card.name;
    EXPECT_FALSE(card.measured) << card.name;
    EXPECT_FALSE(profile.source.empty()) << card.name;
  }
}

/// What the vendor's tables give for a card beside its rates: the rates follow from it.
struct ChipFigures {
  std::string_view name;
  int boost_mhz;
  int lanes;        ///< fp32 lanes of an SM
  int half_rate;    ///< bf16 operations of an SM's tensor cores in a clock, dense, fp32 sums
  double pin_rate;  ///< Gbit/s of one pin of the memory
  int bus_bits;
  int tensor_mhz = 0;  ///< 0: the boost clock
};

constexpr ChipFigures kChips[] = {
    {"rtx3060", 1777, 128, 512, 15, 192},         {"rtx3080", 1710, 128, 512, 19, 320},
    {"rtx3090", 1695, 128, 512, 19.5, 384},       {"rtx4060ti-16", 2535, 128, 512, 18, 128},
    {"rtx4070", 2475, 128, 512, 21, 192},         {"rtx4080", 2505, 128, 512, 22.4, 256},
    {"rtx4090", 2520, 128, 512, 21, 384},         {"rtx5060ti-16", 2572, 128, 512, 28, 128},
    {"rtx5080", 2617, 128, 512, 30, 256},         {"rtx5090", 2407, 128, 512, 28, 512},
    {"rtxpro6000", 2617, 128, 1024, 28, 512},     {"a10", 1695, 128, 1024, 12.5, 384},
    {"l4", 2040, 128, 1024, 12.5, 192},           {"l40s", 2520, 128, 1024, 18, 384, 2490},
    {"a100-40", 1410, 64, 2048, 2.43, 5120},      {"a100-80", 1410, 64, 2048, 3.186, 5120},
    {"h100", 1980, 128, 4096, 5.234, 5120, 1830}, {"h200", 1980, 128, 4096, 6.25, 6144, 1830},
};

TEST(CardProfiles, RatesFollowFromClocksAndWidths) {
  ASSERT_EQ(std::size(kChips), card_profiles().size());
  for (const ChipFigures& chip : kChips) {
    const Card card = card_from_profile(chip.name);
    const double clocks = card.multiprocessors * 1e6;
    const double floats = clocks * chip.boost_mhz * chip.lanes * 2;
    const double halves =
        clocks * (chip.tensor_mhz > 0 ? chip.tensor_mhz : chip.boost_mhz) * chip.half_rate;
    EXPECT_NEAR(card.float_flops / floats, 1.0, 0.01) << card.name;
    EXPECT_NEAR(card.half_flops / halves, 1.0, 0.01) << card.name;
    EXPECT_NEAR(card.bytes_per_second / (chip.pin_rate * chip.bus_bits / 8 * 1e9), 1.0, 0.005)
        << card.name;
  }
}

TEST(CardProfiles, AreFoundHoweverTheyAreSpelled) {
  for (const char* name : {"rtx4090", "RTX 4090", "rtx-4090", "RTX_4090"}) {
    EXPECT_EQ(card_from_profile(name).name, "rtx4090");
  }
  EXPECT_EQ(card_from_profile("h100").shared_bytes, 227 << 10);
  EXPECT_EQ(card_from_profile("a100-80").shared_bytes, 163 << 10);
  EXPECT_EQ(card_from_profile("l4").shared_bytes, 99 << 10);
  EXPECT_EQ(describe(card_from_profile("rtx4090")), "rtx4090 · compute 8.9 · 128 SMs · 23.99 GiB");
}

TEST(CardProfiles, AreFoundByFigures) {
  for (const CardProfile& profile : card_profiles()) {
    Card card = card_from_profile(profile.name);
    card.name = "NVIDIA as the driver calls it";
    card.memory_bytes -= std::int64_t{20} << 20;
    ASSERT_NE(profile_of(card), nullptr) << profile.name;
    EXPECT_EQ(profile_of(card)->name, profile.name);
    card.multiprocessors -= 2;
    EXPECT_EQ(profile_of(card), nullptr) << profile.name;
  }
}

TEST(CardProfiles, AnUnknownOneNamesThoseThereAre) {
  try {
    card_from_profile("rtx9090");
    FAIL();
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), HasSubstr("device_profile=rtx9090: no such profile"));
    EXPECT_THAT(error.what(), HasSubstr("rtx4090"));
  }
}

StepModule compile(const char* shape, const char* settings) {
  std::istringstream text(settings);
  std::vector<Assignment> assignments;
  for (std::string word; text >> word;) {
    const auto equals = word.find('=');
    assignments.push_back(from_command_line(word.substr(0, equals), word.substr(equals + 1)));
  }
  const StepRequest request{.rows = 2,
                            .lengths = {512},
                            .accumulate = true,
                            .evaluation_lengths = {512},
                            .rope_positions = 512};
  return compile_step(shape_config(shape), request, make_settings(assignments), nullptr);
}

Target target_for(std::string_view card) {
  return {.backend = "cuda", .threads = 2, .libraries = {}, .card = card_from_profile(card)};
}

std::set<std::string_view> kernels_for(Op op, const Plan& plan) {
  std::set<std::string_view> names;
  for (const KernelChoice& choice : plan.choices) {
    if (choice.kernel->op == op) names.insert(choice.kernel->name);
  }
  return names;
}

TEST(CudaPlan, ChoosesKernelsOfTheCard) {
  const CudaBackend backend;
  const StepModule module = compile("smol135m", "activation_checkpointing=true");
  for (const char* card : {"rtx3060", "rtx4090", "a100-80", "h100", "rtx5090"}) {
    const Plan plan = make_plan(module, backend, target_for(card));
    for (const Op op : {Op::linear, Op::linear_dx, Op::linear_dw, Op::head_loss_grad}) {
      const auto names = kernels_for(op, plan);
      ASSERT_EQ(names.size(), 1U) << card;
      EXPECT_TRUE(names.begin()->starts_with("cublaslt_")) << *names.begin();
    }
    for (const KernelChoice& choice : plan.choices) {
      EXPECT_FALSE(choice.kernel->run == nullptr) << choice.kernel->name;
    }
    for (const Root& root : plan.roots) EXPECT_EQ(root.offset % 512, 0) << root.name;
  }
}

/// The workspace of products is 32 MiB on Hopper and 4 MiB elsewhere; nothing else differs.
TEST(CudaPlan, CountsTheGrantsOfTheCardsKernels) {
  constexpr std::int64_t kMebibyte = std::int64_t{1} << 20;
  const CudaBackend backend;
  for (const char* settings :
       {"activation_checkpointing=true",
        "finetuning_type=lora load_in_4bit=true activation_checkpointing=true"}) {
    const StepModule module = compile("smol135m", settings);
    const auto bound = [&](const char* card) {
      return make_plan(module, backend, target_for(card)).arena(Space::device).lower_bound;
    };
    EXPECT_EQ(bound("rtx3060"), bound("rtx4090"));
    EXPECT_EQ(bound("h100"), bound("h200"));
    const std::int64_t more = bound("h100") - bound("rtx4090");
    EXPECT_GE(more, 0);
    EXPECT_LE(more, 28 * kMebibyte);
  }
}

/// Golden bytes of the device arena, 2 rows of 512: those of Hopper have larger grants.
struct CardGolden {
  const char* shape;
  const char* settings;
  std::int64_t hopper_bytes;
  std::int64_t other_bytes;
};

constexpr CardGolden kGolden[] = {
    {"smol135m", "activation_checkpointing=true", 2'296'549'376, 2'267'189'248},
    {"llama-3.1-8b", "finetuning_type=lora load_in_4bit=true activation_checkpointing=true",
     7'177'588'224, 7'148'228'096},
};

TEST(CudaPlan, HasTheGoldenBytesOnEveryCard) {
  const CudaBackend backend;
  for (const CardGolden& golden : kGolden) {
    const StepModule module = compile(golden.shape, golden.settings);
    for (const CardProfile& profile : card_profiles()) {
      const Plan plan = make_plan(module, backend, target_for(profile.name));
      const ArenaPlan& arena = plan.arena(Space::device);
      EXPECT_EQ(arena.bytes, profile.compute == 90 ? golden.hopper_bytes : golden.other_bytes)
          << golden.shape << " on " << profile.name;
      EXPECT_LE(static_cast<double>(arena.bytes), 1.01 * static_cast<double>(arena.lower_bound));
    }
  }
}

}  // namespace
}  // namespace snug
