// Every kernel of the CUDA back end on the card of this machine, against the reference on the same
// bits: the first of each list that takes the operands, and the last. Skipped without a card.

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "backend/conformance_runner.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/probe.h"
#include "backend/device.h"
#include "backend/reference/reference.h"
#include "core/error.h"

namespace snug::testing {
namespace {

/// The card and a target for it; none when there is none.
class CardUnderTest {
 public:
  CardUnderTest() {
    try {
      target = {.backend = "cuda", .threads = 1, .libraries = {}, .card = cuda::probe_card()};
      device = open_device(target);
    } catch (const UserError& error) {
      reason = error.what();
    }
  }
  static CardUnderTest& get() {
    static CardUnderTest card;
    return card;
  }
  Target target;
  std::unique_ptr<Device> device;
  std::string reason;
};

/// Mirrors all storages on the card around every kernel, guard bytes included.
class CardRunner final : public Runner {
 public:
  CardRunner(const Graph& graph, const KernelSource& source, CardUnderTest& card)
      : Runner(graph, source, 1, card.target), device_(*card.device) {}

 protected:
  void execute(const Kernel& kernel, KernelCall call, std::size_t granted) override {
    std::vector<std::byte*> mirrors;
    for (const auto& bytes : storage()) {
      mirrors.push_back(device_.reserve(Space::device, static_cast<std::int64_t>(bytes.size())));
      device_.write(mirrors.back(), bytes);
    }
    const auto on_card = [&](std::span<const Operand> operands) {
      std::vector<Operand> moved(operands.begin(), operands.end());
      for (Operand& operand : moved) {
        for (std::size_t s = 0; s < mirrors.size(); ++s) {
          auto& bytes = storage()[s];
          if (operand.data < bytes.data() || operand.data >= bytes.data() + bytes.size()) continue;
          operand.data = mirrors[s] + (operand.data - bytes.data());
          break;
        }
      }
      return moved;
    };
    const std::vector<Operand> inputs = on_card(call.inputs);
    const std::vector<Operand> outputs = on_card(call.outputs);
    std::vector<std::byte> scratch(granted + kGuardBytes, kMark);
    std::byte* const area =
        device_.reserve(Space::device, static_cast<std::int64_t>(scratch.size()));
    device_.write(area, scratch);
    kernel.run({call.attributes,
                inputs,
                outputs,
                {area, granted},
                call.prepared,
                call.pool,
                device_.queue(Lane::compute)});
    device_.finish();
    for (std::size_t s = 0; s < mirrors.size(); ++s) device_.read(storage()[s], mirrors[s]);
    device_.read(scratch, area);
    for (std::size_t i = granted; i < scratch.size(); ++i) {
      ASSERT_EQ(scratch[i], kMark) << kernel.name << " writes beyond its grant of " << granted;
    }
  }

 private:
  Device& device_;
};

class OnCard : public ::testing::TestWithParam<std::tuple<ConformanceCase, DType, bool>> {};

TEST_P(OnCard, AgreesWithTheReference) {
  CardUnderTest& card = CardUnderTest::get();
  if (!card.device) GTEST_SKIP() << card.reason;
  const auto& [c, type, last] = GetParam();
  const Graph graph = graph_of(c, type);
  const CudaBackend cuda;
  const ReferenceBackend reference;
  Runner expected(graph, reference, 1);
  expected.run();
  CardRunner actual(graph, cuda, card);
  if (last) actual.take_last();
  actual.run();
  for (const ValueId id : graph.outputs) {
    const Distance d = distance(actual.output(id), expected.output(id));
    const DType result = graph.value(id).type.dtype;
    EXPECT_LE(d.difference, tolerance(result, type, c.sum_length) * d.size) << graph.value(id).name;
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, OnCard,
                         ::testing::Combine(::testing::ValuesIn(kConformanceCases),
                                            ::testing::Values(DType::f32, DType::bf16, DType::f16),
                                            ::testing::Bool()),
                         [](const auto& test) {
                           return std::string(std::get<0>(test.param).name) + "_" +
                                  std::string(name_of(std::get<1>(test.param))) +
                                  (std::get<2>(test.param) ? "_last" : "_first");
                         });

/// Whole tiles, ends of tiles, documents, windows and every tile width.
constexpr ConformanceCase kAttention[] = {
    {"width64", 300, R"(
input %q $[300, 4, 64]
input %k $[300, 2, 64]
input %v $[300, 2, 64]
input %doc_start i32[300]
%o, %lse = attention(%q, %k, %v, %doc_start) {scale=0.125, window=0} : $[300, 4, 64]; f32[4, 300] @ forward
input %do $[300, 4, 64]
%dq, %dk, %dv = attention_grad(%q, %k, %v, %doc_start, %o, %lse, %do) {scale=0.125, window=0} : $[300, 4, 64]; $[300, 2, 64]; $[300, 2, 64] @ backward
output %o
output %lse
output %dq
output %dk
output %dv)"},
    {"width128window", 256, R"(
input %q $[256, 4, 128]
input %k $[256, 1, 128]
input %v $[256, 1, 128]
input %doc_start i32[256]
%o, %lse = attention(%q, %k, %v, %doc_start) {scale=0.09, window=70} : $[256, 4, 128]; f32[4, 256] @ forward
input %do $[256, 4, 128]
%dq, %dk, %dv = attention_grad(%q, %k, %v, %doc_start, %o, %lse, %do) {scale=0.09, window=70} : $[256, 4, 128]; $[256, 1, 128]; $[256, 1, 128] @ backward
output %o
output %lse
output %dq
output %dk
output %dv)"},
    {"width96", 130, R"(
input %q $[130, 2, 96]
input %k $[130, 2, 96]
input %v $[130, 2, 96]
input %doc_start i32[130]
%o, %lse = attention(%q, %k, %v, %doc_start) {scale=0.1, window=0} : $[130, 2, 96]; f32[2, 130] @ forward
input %do $[130, 2, 96]
%dq, %dk, %dv = attention_grad(%q, %k, %v, %doc_start, %o, %lse, %do) {scale=0.1, window=0} : $[130, 2, 96]; $[130, 2, 96]; $[130, 2, 96] @ backward
output %o
output %lse
output %dq
output %dk
output %dv)"},
    {"width256", 200, R"(
input %q $[200, 2, 256]
input %k $[200, 1, 256]
input %v $[200, 1, 256]
input %doc_start i32[200]
%o, %lse = attention(%q, %k, %v, %doc_start) {scale=0.06, window=0} : $[200, 2, 256]; f32[2, 200] @ forward
input %do $[200, 2, 256]
%dq, %dk, %dv = attention_grad(%q, %k, %v, %doc_start, %o, %lse, %do) {scale=0.06, window=0} : $[200, 2, 256]; $[200, 1, 256]; $[200, 1, 256] @ backward
output %o
output %lse
output %dq
output %dk
output %dv)"},
};

INSTANTIATE_TEST_SUITE_P(Attention, OnCard,
                         ::testing::Combine(::testing::ValuesIn(kAttention),
                                            ::testing::Values(DType::bf16, DType::f16),
                                            ::testing::Bool()),
                         [](const auto& test) {
                           return std::string(std::get<0>(test.param).name) + "_" +
                                  std::string(name_of(std::get<1>(test.param))) +
                                  (std::get<2>(test.param) ? "_last" : "_first");
                         });

}  // namespace
}  // namespace snug::testing
