// The CUDA back end's plain kernels, as loops on the host, against the reference on the same bits:
// the arithmetic and the indices that a card computes with.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <vector>

#include "backend/cuda/blocks.h"
#include "backend/cuda_testing.h"

namespace snug::testing {
namespace {

void expect_the_references_values(const ConformanceCase& c, DType type,
                                  CudaBackend::Kernels kernels, const char* prefix) {
  for (const std::string& name : expect_the_references_values(c, type, kernels)) {
    EXPECT_TRUE(name.starts_with(prefix)) << name;
  }
}

class CudaPlain : public ::testing::TestWithParam<std::tuple<ConformanceCase, DType>> {};

TEST_P(CudaPlain, AgreesWithTheReference) {
  const auto& [c, type] = GetParam();
  expect_the_references_values(c, type, CudaBackend::Kernels::plain, "cuda_plain_");
}

/// What is built on the library's products, with the plain product in the library's place: slabs,
/// tiles, random rounding, grants.
TEST(CudaOnBlas, AgreesWithTheReference) {
  const CudaBackend cuda;
  std::set<std::string_view> run;
  for (const ConformanceCase& c : kConformanceCases) {
    const Op op = graph_of(c, DType::bf16).nodes.back().op;
    const std::string_view first = cuda.kernels(op).front()->name;
    if (!first.starts_with("cublaslt_")) continue;
    for (const DType type : {DType::f32, DType::bf16, DType::f16}) {
      SCOPED_TRACE(c.name);
      expect_the_references_values(c, type, CudaBackend::Kernels::all, "");
    }
    run.insert(first);
  }
  EXPECT_EQ(run.size(), 9U);
}

/// The cases whose kernels take eight elements at a time, with sizes that they take.
TEST(CudaEights, AgreeWithTheReference) {
  constexpr std::array<std::string_view, 7> kCases = {
      "add",         "silu_mul",     "silu_mul_grad",   "rms_norm",
      "rms_norm_dx", "adamw_master", "adamw_stochastic"};
  const CudaBackend cuda;
  const ReferenceBackend reference;
  std::set<std::string> run;
  for (const ConformanceCase& c : kConformanceCases) {
    if (std::ranges::find(kCases, c.name) == kCases.end()) continue;
    std::string text(c.text);
    for (std::size_t at = text.find("77]"); at != std::string::npos; at = text.find("77]", at)) {
      text.replace(at, 2, "1032");
    }
    const ConformanceCase even{c.name, 1032, text};
    for (const DType type : {DType::f32, DType::bf16, DType::f16}) {
      SCOPED_TRACE(fmt::format("{} {}", c.name, name_of(type)));
      const Graph graph = graph_of(even, type);
      Runner expected(graph, reference, 1);
      expected.run();
      Runner actual(graph, cuda, 1, card_target());
      actual.run();
      const bool update = op_def(graph.nodes.back().op).update_states >= 0;
      for (const ValueId id : graph.outputs) {
        if (update) {
          EXPECT_EQ(actual.output(id), expected.output(id)) << graph.value(id).name;
          continue;
        }
        const Distance d = distance(actual.output(id), expected.output(id));
        EXPECT_LE(d.difference,
                  tolerance(graph.value(id).type.dtype, type, even.sum_length) * d.size);
      }
      for (const std::string& kernel : actual.kernels()) run.insert(kernel);
    }
  }
  for (const std::string_view name : kCases) {
    const std::string op(name.starts_with("adamw") ? "adamw" : name);
    EXPECT_TRUE(run.contains("cuda_eights_" + op)) << op;
  }
}

/// Gradients in fp32 beside 16-bit weights.
TEST(CudaEights, UpdateByWideGradients) {
  const ConformanceCase* const master = std::ranges::find(
      kConformanceCases, std::string_view("adamw_master"), &ConformanceCase::name);
  ASSERT_NE(master, kConformanceCases.end());
  std::string text(master->text);
  for (std::size_t at = text.find("77]"); at != std::string::npos; at = text.find("77]", at)) {
    text.replace(at, 2, "64");
  }
  text.replace(text.find("%g $"), 4, "%g f32");
  for (const DType type : {DType::bf16, DType::f16}) {
    expect_the_references_values({"wide", 1, text}, type, CudaBackend::Kernels::all,
                                 "cuda_eights_adamw");
  }
}

TEST(CudaEights, TurnHeads) {
  const ConformanceCase c{"rope", 2, R"(
input %x $[37, 3, 48]
input %cos f32[64, 24]
input %sin f32[64, 24]
input %positions i32[37]
%y = rope(%x, %cos, %sin, %positions) : $[37, 3, 48] @ forward
output %y)"};
  for (const DType type : {DType::f32, DType::bf16, DType::f16}) {
    expect_the_references_values(c, type, CudaBackend::Kernels::all, "cuda_eights_rope");
  }
}

/// Rows and blocks in eights, of every format: the reference's bits.
TEST(CudaEights, Dequantize) {
  constexpr std::string_view kNested = R"(
input %codes u8[2560]
input %scale_codes u8[80]
input %scales f32[1]
input %offset f32[]
%w = dequantize(%codes, %scale_codes, %scales, %offset) {format="nf4", shape="40,128", dtype="$"} : $[40, 128] @ forward
output %w)";
  constexpr std::string_view kPlain = R"(
input %codes u8[960]
input %scales f32[30]
%w = dequantize(%codes, %scales) {format="fp4", shape="80,24", dtype="$"} : $[80, 24] @ forward
output %w)";
  constexpr std::string_view kBytes = R"(
input %bytes i8[1920]
input %scales f32[80]
%w = dequantize(%bytes, %scales) {format="int8", shape="80,24", dtype="$"} : $[80, 24] @ forward
output %w)";
  const CudaBackend cuda;
  const ReferenceBackend reference;
  for (const std::string_view text : {kNested, kPlain, kBytes}) {
    for (const DType type : {DType::f32, DType::bf16, DType::f16}) {
      const Graph graph = graph_of({"dequantize", 1, text}, type);
      Runner expected(graph, reference, 1);
      expected.run();
      Runner actual(graph, cuda, 1, card_target());
      actual.run();
      EXPECT_THAT(actual.kernels(), ::testing::ElementsAre("cuda_eights_dequantize"));
      EXPECT_EQ(actual.output(graph.outputs[0]), expected.output(graph.outputs[0])) << text;
    }
  }
}

/// A gradient that is added to takes each element's own random bits, eight elements at a time too.
TEST(CudaEights, RoundSumsAtRandom) {
  const ConformanceCase c{"linear_dw_acc", 37, R"(
input %dy $[37, 56]
input %x $[37, 80]
input %acc $[56, 80]
input %draw i64[] scalar
%dw = linear_dw(%dy, %x, %acc, %draw) {dtype="$", seed=1, stream=2} : $[56, 80] base=%acc @ backward
output %dw)"};
  const Graph graph = graph_of(c, DType::bf16);
  const CudaBackend on_blas;
  const CudaBackend plain(CudaBackend::Kernels::plain);
  Runner expected(graph, plain, 1, card_target());
  expected.run();
  Runner actual(graph, on_blas, 1, card_target());
  actual.run();
  EXPECT_THAT(actual.kernels(), ::testing::ElementsAre("cublaslt_linear_dw"));
  EXPECT_EQ(actual.output(graph.outputs[0]), expected.output(graph.outputs[0]));
}

TEST(CudaEights, TakeOddAddressesOneByOne) {
  const ConformanceCase c{"add", 1, R"(
input %wide $[2100]
%a = view(%wide) {offset=1, shape="2,1024", row_stride=1024} : $[2, 1024] base=%wide offset=1 stride=1024 @ forward
input %b $[2, 1024]
%y = add(%a, %b) : $[2, 1024] @ forward
output %y)"};
  expect_the_references_values(c, DType::bf16, CudaBackend::Kernels::all, "cuda_eights_add");
}

INSTANTIATE_TEST_SUITE_P(Kernels, CudaPlain,
                         ::testing::Combine(::testing::ValuesIn(kConformanceCases),
                                            ::testing::Values(DType::f32, DType::bf16, DType::f16)),
                         [](const auto& test) {
                           return std::string(std::get<0>(test.param).name) + "_" +
                                  std::string(name_of(std::get<1>(test.param)));
                         });

/// Updates have one order of operations: the bits are the reference's.
TEST(CudaPlainUpdates, HaveTheReferencesBits) {
  const CudaBackend cuda(CudaBackend::Kernels::plain);
  const ReferenceBackend reference;
  std::set<std::string> compared;
  for (const ConformanceCase& c : kConformanceCases) {
    for (const DType type : {DType::f32, DType::bf16}) {
      const Graph graph = graph_of(c, type);
      const Op op = graph.nodes.front().op;
      const bool adafactor = op == Op::adafactor || op == Op::adafactor_vector;
      if (op_def(op).update_states < 0 || adafactor) continue;  // Adafactor's sums are in double
      Runner expected(graph, reference, 1);
      expected.run();
      Runner actual(graph, cuda, 1, card_target());
      actual.run();
      for (const ValueId id : graph.outputs) {
        EXPECT_EQ(actual.output(id), expected.output(id)) << c.name << " " << graph.value(id).name;
      }
      compared.insert(std::string(op_def(op).name));
    }
  }
  EXPECT_EQ(compared.size(), 6U);
}

TEST(CudaKernelTable, DeclareBlocksThatEveryCardTakes) {
  const CudaBackend cuda;
  for (std::size_t i = 0; i < static_cast<std::size_t>(Op::count_); ++i) {
    for (const Kernel* kernel : cuda.kernels(static_cast<Op>(i))) {
      const cuda::BlockNeeds needs = cuda::block_needs(*kernel);
      for (const CardProfile& profile : card_profiles()) {
        EXPECT_EQ(cuda::misses(needs, card_from_profile(profile.name)), nullptr) << kernel->name;
      }
      EXPECT_LE(needs.shared_bytes, kSmallSharedBytes) << kernel->name;
    }
  }
  Card old = card_from_profile("rtx3060");
  old.compute = 75;
  EXPECT_NE(cuda::misses(cuda::kPlainBlock, old), nullptr);
  Card small = card_from_profile("rtx3060");
  small.shared_bytes = 48 << 10;
  EXPECT_NE(cuda::misses(cuda::flash_block(256), small), nullptr);
  EXPECT_EQ(cuda::misses(cuda::flash_block(64), small), nullptr);
}

TEST(CudaPlainKernels, AreLastInEveryListThatTheCpuHas) {
  const CudaBackend cuda;
  const ReferenceBackend reference;
  for (std::size_t i = 0; i < static_cast<std::size_t>(Op::count_); ++i) {
    const auto op = static_cast<Op>(i);
    if (reference.kernels(op).empty()) continue;
    const auto kernels = cuda.kernels(op);
    ASSERT_FALSE(kernels.empty()) << op_def(op).name;
    EXPECT_TRUE(kernels.back()->name.starts_with("cuda_plain_")) << kernels.back()->name;
  }
}

}  // namespace
}  // namespace snug::testing
