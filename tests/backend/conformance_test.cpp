// Every kernel of the CPU back end against the reference on the same bits.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "backend/conformance_cases.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/isa.h"
#include "backend/kernel_testing.h"
#include "backend/reference/elements.h"
#include "ir/liveness.h"
#include "ir/text.h"
#include "ir/verify.h"

namespace snug::testing {
namespace {

constexpr std::size_t kGuardBytes = 256;
constexpr std::byte kMark{0x5a};

Isa tested_isa() {
  const char* cap = std::getenv("SNUG_TEST_ISA");
  const std::string name = cap == nullptr ? "" : cap;
  const Isa most = name == "avx2" ? Isa::avx2 : name == "avx512" ? Isa::avx512 : Isa::amx;
  return std::min(detect_isa(), most);
}

/// Runs a graph on one back end; every storage lies between guard bytes.
class Runner {
 public:
  Runner(const Graph& graph, const KernelSource& source, int threads)
      : graph_(graph), source_(source), live_(analyse_liveness(graph)), pool_(threads) {
    target_.isa = tested_isa();
    target_.threads = 3;
    for (const StorageInterval& interval : live_.intervals) {
      const auto bytes = static_cast<std::size_t>((interval.bytes + 63) / 64 * 64);
      storage_.emplace_back(bytes + 2 * kGuardBytes + 64, kMark);
    }
    fill_inputs();
  }

  void run() {
    for (const Node& node : graph_.nodes) {
      if (!op_def(node.op).view) run(node);
    }
    for (std::size_t s = 0; s < storage_.size(); ++s) expect_guards(s);
  }

  std::vector<double> output(ValueId id) const {
    const reference::Elements from(operand(id));
    std::vector<double> values;
    for (std::int64_t i = 0; i < from.size(); ++i) values.push_back(from[i]);
    return values;
  }
  const std::set<std::string>& kernels() const { return kernels_; }

 private:
  static std::size_t at(ValueId id) { return static_cast<std::size_t>(id); }

  std::byte* base(std::size_t storage) const {
    auto* bytes = const_cast<std::byte*>(storage_[storage].data()) + kGuardBytes;
    const auto address = reinterpret_cast<std::uintptr_t>(bytes);
    return bytes + (64 - address % 64) % 64;
  }

  void expect_guards(std::size_t storage) const {
    const std::byte* begin = base(storage);
    const std::byte* end = begin + live_.intervals[storage].bytes;
    for (const std::byte* p = storage_[storage].data(); p < begin; ++p) {
      ASSERT_EQ(*p, kMark) << "written before a value";
    }
    for (const std::byte* p = end; p < storage_[storage].data() + storage_[storage].size(); ++p) {
      ASSERT_EQ(*p, kMark) << "written behind a value";
    }
  }

  Operand operand(ValueId id) const {
    if (!exists(id)) return {.data = nullptr, .layout = {.type = {}, .present = false}};
    const auto storage = static_cast<std::size_t>(live_.interval_of[at(id)]);
    return {base(storage) + graph_.byte_offset(id), {graph_.value(id).type, graph_.row_stride(id)}};
  }

  /// The same values on every back end: they depend on the value's name alone.
  void fill_inputs() {
    const auto producers = graph_.producers();
    for (std::int64_t v = 0; v < graph_.value_count(); ++v) {
      const auto id = static_cast<ValueId>(v);
      if (producers[at(id)] >= 0 || live_.interval_of[at(id)] < 0) continue;
      const std::string& name = graph_.value(id).name;
      const reference::Elements to(operand(id));
      std::mt19937_64 random(std::hash<std::string>()(name));
      std::normal_distribution<double> normal(0, 1);
      for (std::int64_t i = 0; i < to.size(); ++i) to.set(i, value_of(name, i, random, normal));
    }
  }

  static double value_of(const std::string& name, std::int64_t i, std::mt19937_64& random,
                         std::normal_distribution<double>& normal) {
    static const std::map<std::string, double> scalars = {
        {"position", 53}, {"draw", 3},   {"lr", 0.01},  {"c1", 0.19},
        {"c2", 0.002},    {"clip", 0.7}, {"apply", 1},  {"weight", 0.125},
        {"rate", 0.02},   {"rest", 0.3}, {"finite", 1}, {"wanted", 1}};
    if (const auto it = scalars.find(name); it != scalars.end()) return it->second;
    if (name == "codes" || name == "scale_codes") return static_cast<double>(random() % 256);
    if (name == "bytes") return static_cast<double>(static_cast<int>(random() % 255) - 127);
    if (name == "ids") return static_cast<double>(random() % 7);
    if (name == "labels") return i % 5 == 2 ? -100 : static_cast<double>(random() % 101);
    if (name == "positions") return static_cast<double>(i % 64);
    if (name == "doc_start") return i < 70 ? 0 : (i < 140 ? 70 : static_cast<double>(i));
    if (name.starts_with("codes")) return static_cast<double>(random() % 256);
    if (name.starts_with("absmax")) return 0.01 + std::abs(normal(random));
    if (name == "norms") return 0.5 + std::abs(normal(random));
    if (name == "v" || name == "m") return std::abs(normal(random)) * 0.01;
    return normal(random);
  }

  void run(const Node& node) {
    std::vector<Operand> inputs;
    std::vector<Operand> outputs;
    std::vector<OperandLayout> in;
    std::vector<OperandLayout> out;
    for (const ValueId id : node.inputs) in.push_back(inputs.emplace_back(operand(id)).layout);
    for (const ValueId id : node.outputs) out.push_back(outputs.emplace_back(operand(id)).layout);
    const KernelQuery query{node.op, node.attributes, in, out, target_};
    const Kernel* chosen = nullptr;
    for (const Kernel* kernel : source_.kernels(node.op)) {
      if (chosen == nullptr && (kernel->refuses == nullptr || !kernel->refuses(query))) {
        chosen = kernel;
      }
    }
    ASSERT_NE(chosen, nullptr);
    kernels_.insert(std::string(chosen->name));
    const auto granted =
        static_cast<std::size_t>(chosen->grant == nullptr ? 0 : chosen->grant(query));
    std::vector<std::byte> scratch(granted + kGuardBytes + 64, kMark);
    const auto address = reinterpret_cast<std::uintptr_t>(scratch.data());
    std::byte* begin = scratch.data() + (64 - address % 64) % 64;
    const auto prepared = chosen->prepare == nullptr ? nullptr : chosen->prepare(query);
    chosen->run({node.attributes, inputs, outputs, {begin, granted}, prepared.get(), pool_});
    for (const std::byte* p = begin + granted; p < scratch.data() + scratch.size(); ++p) {
      ASSERT_EQ(*p, kMark) << chosen->name << " writes beyond its grant of " << granted;
    }
  }

  const Graph& graph_;
  const KernelSource& source_;
  Liveness live_;
  Target target_{.backend = "cpu", .libraries = {}};
  ThreadPool pool_;
  std::vector<std::vector<std::byte>> storage_;
  std::set<std::string> kernels_;
};

Graph graph_of(const ConformanceCase& c, DType type) {
  std::string text(c.text.substr(1));
  for (std::size_t at = text.find('$'); at != std::string::npos; at = text.find('$')) {
    text.replace(at, 1, name_of(type));
  }
  Graph graph = parse_graph(text);
  verify_graph(graph);
  return graph;
}

/// ||a - b|| / ||b||: rounding of the result, of intermediate results in the same type (an
/// attention weight, a logit's gradient), and of an fp32 sum of `length` terms.
double tolerance(DType result, DType operands, double length) {
  const double sum = 0x1p-24 * 8 * std::sqrt(length);
  const auto last_place = [](DType type, double wide) {
    return type == DType::bf16 ? 0x1p-8 : type == DType::f16 ? 0x1p-11 : wide;
  };
  const double inner = length > 1 ? last_place(operands, 0.0) : 0.0;
  return sum + inner + last_place(result, 0x1p-22);
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
  for (const int threads : {1, 2, 3}) {
    Runner actual(graph, cpu, threads);
    actual.run();
    for (const std::string& name : actual.kernels()) EXPECT_TRUE(name.starts_with("cpu_")) << name;
    for (const ValueId id : graph.outputs) {
      const auto a = actual.output(id);
      const auto b = expected.output(id);
      double difference = 0;
      double square = 0;
      for (std::size_t i = 0; i < a.size(); ++i) {
        const double d = a[i] == b[i] ? 0.0 : a[i] - b[i];  // equal infinities differ by nothing
        difference += d * d;
        square += std::isfinite(b[i]) ? b[i] * b[i] : 0.0;
      }
      const DType result = graph.value(id).type.dtype;
      EXPECT_LE(std::sqrt(difference), tolerance(result, type, c.sum_length) * std::sqrt(square))
          << graph.value(id).name;
      auto& bits = by_threads[threads];
      bits.insert(bits.end(), a.begin(), a.end());
    }
  }
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
