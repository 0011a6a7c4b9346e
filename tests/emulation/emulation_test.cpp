// Kernels of the CUDA back end as a card runs them, block by block and thread by thread, on a host:
// tiles and fragments of attention, what the members of a team share, barriers that are missing.
// Speed, launch limits and the library are a card's.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "backend/cuda_testing.h"

namespace snug::testing {
namespace {

/// Attention and its gradient; @t tokens, @h heads, @g shared by, @w wide, @s the window.
std::string attention(int tokens, int heads, int groups, int width, int window) {
  std::string text = R"(
input %q $[@t, @h, @w]
input %k $[@t, @g, @w]
input %v $[@t, @g, @w]
input %doc_start i32[@t]
%o, %lse = attention(%q, %k, %v, %doc_start) {scale=0.1, window=@s} : $[@t, @h, @w]; f32[@h, @t] @ forward
input %do $[@t, @h, @w]
%dq, %dk, %dv = attention_grad(%q, %k, %v, %doc_start, %o, %lse, %do) {scale=0.1, window=@s} : $[@t, @h, @w]; $[@t, @g, @w]; $[@t, @g, @w] @ backward
output %o
output %lse
output %dq
output %dk
output %dv)";
  const auto fill = [&](const char* name, int number) {
    for (std::size_t at = text.find(name); at != std::string::npos; at = text.find(name)) {
      text.replace(at, 2, std::to_string(number));
    }
  };
  fill("@t", tokens);
  fill("@h", heads);
  fill("@g", groups);
  fill("@w", width);
  fill("@s", window);
  return text;
}

struct AttentionShape {
  int tokens, heads, groups, width, window;
};

class EmulatedAttention : public ::testing::TestWithParam<AttentionShape> {};

/// Whole tiles and ends of tiles, a document that begins within one, shared keys, every tile width.
TEST_P(EmulatedAttention, AgreesWithTheReference) {
  const AttentionShape& s = GetParam();
  const std::string text = attention(s.tokens, s.heads, s.groups, s.width, s.window);
  for (const DType type : {DType::bf16, DType::f16}) {
    const auto kernels = expect_the_references_values(
        {"attention", static_cast<double>(s.tokens), text}, type, CudaBackend::Kernels::all);
    EXPECT_THAT(kernels,
                ::testing::ElementsAre("cuda_flash_attention", "cuda_flash_attention_grad"));
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, EmulatedAttention,
                         ::testing::Values(AttentionShape{100, 2, 1, 64, 0},
                                           AttentionShape{200, 1, 1, 64, 40},
                                           AttentionShape{130, 1, 1, 128, 40},
                                           AttentionShape{66, 2, 2, 96, 0},
                                           AttentionShape{70, 1, 1, 256, 0}),
                         [](const auto& test) {
                           const AttentionShape& s = test.param;
                           return fmt::format("{}x{}wide{}", s.tokens, s.heads, s.width);
                         });

/// Norms, sums, losses, updates: whatever a team's threads share.
class EmulatedTeams : public ::testing::TestWithParam<ConformanceCase> {};

TEST_P(EmulatedTeams, AgreesWithTheReference) {
  for (const auto kernels : {CudaBackend::Kernels::all, CudaBackend::Kernels::plain}) {
    expect_the_references_values(GetParam(), DType::bf16, kernels);
  }
}

std::vector<ConformanceCase> team_cases() {
  constexpr std::string_view kTeams[] = {"rms_norm",  "dora_norm",  "global_norm",
                                         "head_loss", "adamw_8bit", "lion_8bit",
                                         "adafactor", "dequantize", "packed_linear"};
  std::vector<ConformanceCase> cases;
  for (const ConformanceCase& c : kConformanceCases) {
    for (const std::string_view team : kTeams) {
      if (c.name.find(team) == std::string_view::npos) continue;
      cases.push_back(c);
      break;
    }
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Kernels, EmulatedTeams, ::testing::ValuesIn(team_cases()),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace snug::testing
