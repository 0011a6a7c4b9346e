#pragma once
// One-node graphs on any back end: every storage between guard bytes, operands by their names.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "backend/conformance_cases.h"
#include "backend/cpu/isa.h"
#include "backend/reference/elements.h"
#include "ir/liveness.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "plan/kernel.h"

namespace snug::testing {

inline constexpr std::size_t kGuardBytes = 256;
inline constexpr std::byte kMark{0x5a};

inline Isa tested_isa() {
  const char* cap = std::getenv("SNUG_TEST_ISA");
  const std::string name = cap == nullptr ? "" : cap;
  const Isa most = name == "avx2" ? Isa::avx2 : name == "avx512" ? Isa::avx512 : Isa::amx;
  return std::min(detect_isa(), most);
}

/// Runs a graph on one back end; every storage lies between guard bytes.
class Runner {
 public:
  Runner(const Graph& graph, const KernelSource& source, int threads, Target target = cpu_target())
      : graph_(graph),
        source_(source),
        live_(analyse_liveness(graph)),
        target_(std::move(target)),
        pool_(threads) {
    for (const StorageInterval& interval : live_.intervals) {
      const auto bytes = static_cast<std::size_t>((interval.bytes + 63) / 64 * 64);
      storage_.emplace_back(bytes + 2 * kGuardBytes + 64, kMark);
    }
    fill_inputs();
  }

  virtual ~Runner() = default;
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  static Target cpu_target() {
    Target target{.backend = "cpu", .libraries = {}};
    target.isa = tested_isa();
    target.threads = 3;
    return target;
  }
  /// Takes the last kernel that does not refuse, not the first.
  void take_last() { last_ = true; }

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
      const bool refused = kernel->refuses != nullptr && kernel->refuses(query).has_value();
      if (!refused && (chosen == nullptr || last_)) chosen = kernel;
    }
    ASSERT_NE(chosen, nullptr);
    kernels_.insert(std::string(chosen->name));
    const auto granted =
        static_cast<std::size_t>(chosen->grant == nullptr ? 0 : chosen->grant(query));
    const auto prepared = chosen->prepare == nullptr ? nullptr : chosen->prepare(query);
    execute(*chosen, {node.attributes, inputs, outputs, {}, prepared.get(), pool_}, granted);
  }

 protected:
  /// Runs one kernel over `granted` bytes of scratch between guard bytes.
  virtual void execute(const Kernel& kernel, KernelCall call, std::size_t granted) {
    std::vector<std::byte> scratch(granted + kGuardBytes + 64, kMark);
    const auto address = reinterpret_cast<std::uintptr_t>(scratch.data());
    std::byte* begin = scratch.data() + (64 - address % 64) % 64;
    call.scratch = {begin, granted};
    kernel.run(call);
    for (const std::byte* p = begin + granted; p < scratch.data() + scratch.size(); ++p) {
      ASSERT_EQ(*p, kMark) << kernel.name << " writes beyond its grant of " << granted;
    }
  }
  std::vector<std::vector<std::byte>>& storage() { return storage_; }

 private:
  const Graph& graph_;
  const KernelSource& source_;
  Liveness live_;
  Target target_;
  bool last_ = false;
  ThreadPool pool_;
  std::vector<std::vector<std::byte>> storage_;
  std::set<std::string> kernels_;
};

inline Graph graph_of(const ConformanceCase& c, DType type) {
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
inline double tolerance(DType result, DType operands, double length) {
  const double sum = 0x1p-24 * 8 * std::sqrt(length);
  const auto last_place = [](DType type, double wide) {
    return type == DType::bf16 ? 0x1p-8 : type == DType::f16 ? 0x1p-11 : wide;
  };
  const double inner = length > 1 ? last_place(operands, 0.0) : 0.0;
  return sum + inner + last_place(result, 0x1p-22);
}

/// ||actual - expected||, and ||expected||, over what is finite there.
struct Distance {
  double difference = 0;
  double size = 0;
};
inline Distance distance(const std::vector<double>& actual, const std::vector<double>& expected) {
  double difference = 0;
  double square = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    // Equal infinities differ by nothing.
    const double d = actual[i] == expected[i] ? 0.0 : actual[i] - expected[i];
    difference += d * d;
    square += std::isfinite(expected[i]) ? expected[i] * expected[i] : 0.0;
  }
  return {std::sqrt(difference), std::sqrt(square)};
}

}  // namespace snug::testing
