// Every kernel of the CPU back end against the reference on the same bits.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "backend/conformance_runner.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/reference/reference.h"

namespace snug::testing {
namespace {

/// Whether every kernel of these names declares that bits do not depend on the number of threads.
bool are_thread_invariant(const std::set<std::string>& names) {
  const CpuBackend cpu;
  for (std::size_t op = 0; op < static_cast<std::size_t>(Op::count_); ++op) {
    for (const Kernel* kernel : cpu.kernels(static_cast<Op>(op))) {
      if (!kernel->thread_invariant && names.contains(std::string(kernel->name))) return false;
    }
  }
  return true;
}

class Conformance : public ::testing::TestWithParam<std::tuple<ConformanceCase, DType>> {};

TEST_P(Conformance, AgreesWithTheReferenceWhateverTheThreads) {
  cap_isa(tested_isa());
  const auto& [c, type] = GetParam();
  const Graph graph = graph_of(c, type);
  const CpuBackend cpu;
  const ReferenceBackend reference;
  Runner expected(graph, reference, 1);
  expected.run();
  std::map<int, std::vector<double>> by_threads;
  bool invariant = true;
  for (const int threads : {1, 2, 3}) {
    Runner actual(graph, cpu, threads);
    actual.run();
    for (const std::string& name : actual.kernels()) EXPECT_TRUE(name.starts_with("cpu_")) << name;
    invariant = invariant && are_thread_invariant(actual.kernels());
    for (const ValueId id : graph.outputs) {
      const auto a = actual.output(id);
      const auto b = expected.output(id);
      const Distance d = distance(a, b);
      const DType result = graph.value(id).type.dtype;
      EXPECT_LE(d.difference, tolerance(result, type, c.sum_length) * d.size)
          << graph.value(id).name;
      auto& bits = by_threads[threads];
      bits.insert(bits.end(), a.begin(), a.end());
    }
  }
  if (!invariant) return;
  EXPECT_EQ(by_threads[1], by_threads[2]);
  EXPECT_EQ(by_threads[1], by_threads[3]);
}

/// Cases of ops that have a kernel for fp16.
std::vector<ConformanceCase> half_cases() {
  const CpuBackend cpu;
  std::vector<ConformanceCase> cases;
  for (const ConformanceCase& c : kConformanceCases) {
    const Op op = graph_of(c, DType::f16).nodes.front().op;
    const auto kernels = cpu.kernels(op);
    if (std::any_of(kernels.begin(), kernels.end(),
                    [](const Kernel* kernel) { return kernel->name.starts_with("cpu_half_"); })) {
      cases.push_back(c);
    }
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(HalfKernels, Conformance,
                         ::testing::Combine(::testing::ValuesIn(half_cases()),
                                            ::testing::Values(DType::f16)),
                         [](const auto& test) {
                           return std::string(std::get<0>(test.param).name);
                         });

INSTANTIATE_TEST_SUITE_P(Kernels, Conformance,
                         ::testing::Combine(::testing::ValuesIn(kConformanceCases),
                                            ::testing::Values(DType::f32, DType::bf16)),
                         [](const auto& test) {
                           return std::string(std::get<0>(test.param).name) + "_" +
                                  std::string(name_of(std::get<1>(test.param)));
                         });

TEST(ConformanceSuite, HasACaseForEveryKernel) {
  cap_isa(tested_isa());
  const CpuBackend cpu;
  std::set<std::string> missing;
  for (std::size_t op = 0; op < static_cast<std::size_t>(Op::count_); ++op) {
    for (const Kernel* kernel : cpu.kernels(static_cast<Op>(op))) {
      if (kernel->name.starts_with("cpu_")) missing.emplace(kernel->name);
    }
  }
  const auto run = [&](const ConformanceCase& c, DType type) {
    const Graph graph = graph_of(c, type);
    Runner runner(graph, cpu, 1);
    runner.run();
    for (const std::string& name : runner.kernels()) missing.erase(name);
  };
  for (const ConformanceCase& c : kConformanceCases) run(c, DType::f32);
  for (const ConformanceCase& c : half_cases()) run(c, DType::f16);
  EXPECT_THAT(missing, ::testing::IsEmpty());
}

}  // namespace
}  // namespace snug::testing
