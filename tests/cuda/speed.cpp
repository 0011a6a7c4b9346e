// Measures kernels on the card of this machine: one JSON line a case, with the time, the bytes and
// operations that the op table counts, and the least time that the card's rates allow. Exit status
// 2 with the reason when there is no card.
//   card_speed [NAME...]

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/probe.h"
#include "backend/device.h"
#include "core/error.h"
#include "cuda/speed_cases.h"
#include "ir/liveness.h"
#include "ir/text.h"
#include "ir/verify.h"

namespace snug::testing {
namespace {

constexpr std::int64_t kAlign = 512;
constexpr int kRounds = 5;
constexpr double kRoundSeconds = 0.1;

std::int64_t aligned(std::int64_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

Graph graph_of(const ConformanceCase& c) {
  std::string text(c.text.substr(1));
  for (std::size_t at = text.find('$'); at != std::string::npos; at = text.find('$')) {
    text.replace(at, 1, "bf16");
  }
  Graph graph = parse_graph(text);
  verify_graph(graph);
  return graph;
}

/// A block of values of a type, for an operand of that name; operands repeat it.
std::vector<std::byte> values_of(const std::string& name, DType type, std::int64_t count) {
  std::mt19937_64 random(std::hash<std::string>()(name));
  std::normal_distribution<float> normal(0, 1);
  std::vector<std::byte> bytes(static_cast<std::size_t>(count * size_of(type)));
  const auto set = [&](std::int64_t i, auto value) {
    std::memcpy(bytes.data() + static_cast<std::size_t>(i) * sizeof(value), &value, sizeof(value));
  };
  const auto real = [&]() -> float {
    if (name == "lse") return 10.0F;
    if (name == "v" || name == "m") return std::abs(normal(random)) * 0.01F;
    if (name.starts_with("absmax") || name == "scales") return 0.01F;
    if (name == "lr" || name == "c1" || name == "c2" || name == "weight") return 1e-3F;
    return normal(random);
  };
  for (std::int64_t i = 0; i < count; ++i) {
    switch (type) {
      case DType::bf16:
        set(i, BFloat16(real()));
        break;
      case DType::f32:
        set(i, real());
        break;
      case DType::i32: {
        const bool row = name == "positions";
        const auto drawn = static_cast<std::int32_t>(random() % 128'000);
        set(i, row ? static_cast<std::int32_t>(i) : name == "doc_start" ? 0 : drawn);
        break;
      }
      case DType::i64:
        set(i, std::int64_t{3});
        break;
      default:
        set(i, static_cast<std::uint8_t>(random()));
    }
  }
  return bytes;
}

/// One case: where its values lie in the area, the kernel and what it needs.
class Case {
 public:
  Case(const ConformanceCase& c, const KernelSource& source, const Target& target)
      : graph_(graph_of(c)), live_(analyse_liveness(graph_)) {
    for (const StorageInterval& interval : live_.intervals) {
      offsets_.push_back(bytes_);
      bytes_ += aligned(interval.bytes);
    }
    const Node& node = graph_.nodes.back();
    for (const ValueId id : node.inputs) inputs_.push_back(layout(id));
    for (const ValueId id : node.outputs) outputs_.push_back(layout(id));
    const KernelQuery query{node.op, node.attributes, inputs_, outputs_, target};
    for (const Kernel* kernel : source.kernels(node.op)) {
      if (kernel->refuses != nullptr && kernel->refuses(query)) continue;
      kernel_ = kernel;
      break;
    }
    check(kernel_ != nullptr, "no kernel for {}", c.name);
    scratch_ = kernel_->grant == nullptr ? 0 : kernel_->grant(query);
    if (kernel_->prepare != nullptr) prepared_ = kernel_->prepare(query);
  }

  std::int64_t bytes() const { return bytes_ + aligned(scratch_); }
  const Kernel& kernel() const { return *kernel_; }
  OpCost cost() const { return cost_of(graph_, graph_.nodes.back()); }

  void fill(Device& device, std::byte* area) const {
    constexpr std::int64_t kBlock = std::int64_t{1} << 20;
    const auto producers = graph_.producers();
    for (std::int64_t v = 0; v < graph_.value_count(); ++v) {
      const auto id = static_cast<ValueId>(v);
      const auto at = static_cast<std::size_t>(v);
      if (producers[at] >= 0 || live_.interval_of[at] < 0) continue;
      const TensorType& type = graph_.value(id).type;
      const std::int64_t count = type.shape.elements();
      const auto block = values_of(graph_.value(id).name, type.dtype, std::min(count, kBlock));
      std::byte* const to = place(area, id);
      for (std::int64_t done = 0; done < type.bytes();) {
        const std::int64_t part =
            std::min<std::int64_t>(type.bytes() - done, static_cast<std::int64_t>(block.size()));
        device.write(to + done, std::span(block).first(static_cast<std::size_t>(part)));
        done += part;
      }
    }
  }

  /// Queues the kernel once.
  void queue(Device& device, std::byte* area, ThreadPool& pool) const {
    const Node& node = graph_.nodes.back();
    const auto operands = [&](std::span<const ValueId> ids, std::span<const OperandLayout> as) {
      std::vector<Operand> all;
      for (std::size_t i = 0; i < ids.size(); ++i) {
        all.push_back({exists(ids[i]) ? place(area, ids[i]) : nullptr, as[i]});
      }
      return all;
    };
    const std::vector<Operand> in = operands(node.inputs, inputs_);
    const std::vector<Operand> out = operands(node.outputs, outputs_);
    kernel_->run({node.attributes,
                  in,
                  out,
                  {area + bytes_, static_cast<std::size_t>(scratch_)},
                  prepared_.get(),
                  pool,
                  device.queue(Lane::compute)});
  }

 private:
  OperandLayout layout(ValueId id) const {
    if (!exists(id)) return {.type = {}, .present = false};
    return {graph_.value(id).type, graph_.row_stride(id)};
  }
  std::byte* place(std::byte* area, ValueId id) const {
    const auto storage = static_cast<std::size_t>(live_.interval_of[static_cast<std::size_t>(id)]);
    return area + offsets_[storage] + graph_.byte_offset(id);
  }

  Graph graph_;
  Liveness live_;
  std::vector<std::int64_t> offsets_;
  std::int64_t bytes_ = 0;
  std::int64_t scratch_ = 0;
  std::vector<OperandLayout> inputs_, outputs_;
  const Kernel* kernel_ = nullptr;
  std::unique_ptr<Prepared> prepared_;
};

/// Seconds of one run: the median of rounds of runs in a row, after rounds that are not counted.
double seconds_of(const Case& c, Device& device, std::byte* area, ThreadPool& pool) {
  using Clock = std::chrono::steady_clock;
  const auto round = [&](std::int64_t runs) {
    const auto start = Clock::now();
    for (std::int64_t i = 0; i < runs; ++i) c.queue(device, area, pool);
    device.finish();
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  round(3);
  const double one = round(3) / 3;
  const auto runs = std::max<std::int64_t>(3, static_cast<std::int64_t>(kRoundSeconds / one));
  std::vector<double> times;
  for (int i = 0; i < kRounds; ++i) times.push_back(round(runs) / static_cast<double>(runs));
  std::sort(times.begin(), times.end());
  return times[kRounds / 2];
}

void measure(std::span<const std::string> names) {
  const Target target{.backend = "cuda", .threads = 1, .libraries = {}, .card = cuda::probe_card()};
  const auto device = open_device(target);
  const CudaBackend source;
  std::vector<std::pair<std::string, std::unique_ptr<Case>>> cases;
  std::int64_t most = 0;
  for (const ConformanceCase& c : kSpeedCases) {
    const std::string name(c.name);
    if (!names.empty() && std::find(names.begin(), names.end(), name) == names.end()) continue;
    cases.emplace_back(name, std::make_unique<Case>(c, source, target));
    most = std::max(most, cases.back().second->bytes());
  }
  std::byte* const area = device->reserve(Space::device, most);
  ThreadPool pool(1);
  for (const auto& [name, c] : cases) {
    c->fill(*device, area);
    const double seconds = seconds_of(*c, *device, area, pool);
    const OpCost cost = c->cost();
    const auto bytes = static_cast<double>(cost.bytes);
    const auto flops = static_cast<double>(cost.flops);
    nlohmann::ordered_json row = {{"name", name},
                                  {"kernel", c->kernel().name},
                                  {"microseconds", seconds * 1e6},
                                  {"gigabytes_per_second", bytes / seconds / 1e9},
                                  {"teraflops", flops / seconds / 1e12}};
    const Card& card = target.card;
    if (card.bytes_per_second > 0 && card.half_flops > 0) {
      const double least = std::max(bytes / card.bytes_per_second, flops / card.half_flops);
      row["share_of_peak"] = least / seconds;
    }
    std::puts(row.dump().c_str());
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace snug::testing

int main(int count, char** arguments) {
  try {
    snug::testing::measure(std::vector<std::string>(arguments + 1, arguments + count));
    return 0;
  } catch (const snug::UserError& error) {
    std::fprintf(stderr, "card_speed: %s\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "card_speed: %s\n", error.what());
    return 1;
  }
}
