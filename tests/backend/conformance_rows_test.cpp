// Kernels that declare it give a row the same bits whatever the number of rows.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "backend/conformance_runner.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/reference/reference.h"
#include "core/error.h"
#include "plan/kernel_choice.h"

namespace snug::testing {
namespace {

/// One kernel and no other.
class Only final : public KernelSource {
 public:
  explicit Only(const Kernel* kernel) : list_{kernel} {}
  std::span<const Kernel* const> kernels(Op op) const override {
    return op == list_.front()->op ? std::span<const Kernel* const>(list_)
                                   : std::span<const Kernel* const>();
  }

 private:
  std::vector<const Kernel*> list_;
};

/// The graph's one node on its first `rows` rows; nothing where it is no node of rows.
std::optional<Graph> on_first_rows(Graph graph, std::int64_t rows) {
  if (graph.nodes.size() != 1) return std::nullopt;
  const Node& node = graph.nodes.front();
  const Shape& result = graph.value(node.outputs.front()).type.shape;
  if (result.rank() == 0 || result[0] <= rows) return std::nullopt;
  const std::int64_t whole = result[0];
  std::set<ValueId> operands;
  for (const auto& ids : {node.inputs, node.outputs}) {
    for (const ValueId id : ids) {
      if (exists(id)) operands.insert(id);
    }
  }
  for (const ValueId id : operands) {
    Shape& shape = graph.value(id).type.shape;
    if (shape.rank() > 0 && shape[0] == whole) shape.set(0, rows);
  }
  try {
    verify_graph(graph);
  } catch (const InternalError&) {
    return std::nullopt;
  }
  return graph;
}

std::vector<std::vector<double>> results(const Graph& graph, const Kernel* kernel) {
  const Only source(kernel);
  Runner runner(graph, source, 2);
  runner.run();
  std::vector<std::vector<double>> values;
  for (const ValueId id : graph.nodes.front().outputs) {
    values.push_back(exists(id) ? runner.output(id) : std::vector<double>());
  }
  return values;
}

/// Whether results on few rows are the first ones of those on all.
bool begin_alike(const std::vector<std::vector<double>>& few,
                 const std::vector<std::vector<double>>& all) {
  for (std::size_t i = 0; i < few.size(); ++i) {
    const auto same = [](double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); };
    if (few[i].size() > all[i].size() ||
        !std::equal(few[i].begin(), few[i].end(), all[i].begin(), same)) {
      return false;
    }
  }
  return true;
}

bool runs(const Kernel* kernel, const Graph& graph) {
  const Target target = Runner::cpu_target();
  const NodeQuery query(graph, graph.nodes.front(), target);
  return kernel->refuses == nullptr || !kernel->refuses(query);
}

/// Compares every kernel of a case on few rows and on all; names those that were compared.
void compare(const ConformanceCase& c, DType type, std::int64_t rows, std::set<std::string>& seen) {
  const Graph all = graph_of(c, type);
  const std::optional<Graph> few = on_first_rows(all, rows);
  if (!few) return;
  const CpuBackend cpu;
  const ReferenceBackend reference;
  const Op op = all.nodes.front().op;
  const Kernel* plain = reference.kernels(op).back();
  // By the op's meaning a row may need the others.
  try {
    if (!begin_alike(results(*few, plain), results(all, plain))) return;
  } catch (const InternalError&) {
    return;  // operands that belong to more rows
  }
  for (const Kernel* kernel : cpu.kernels(op)) {
    if (!kernel->row_invariant || !runs(kernel, all) || !runs(kernel, *few)) continue;
    EXPECT_TRUE(begin_alike(results(*few, kernel), results(all, kernel)))
        << kernel->name << " on " << rows << " rows of " << c.name;
    seen.emplace(kernel->name);
  }
}

TEST(ConformanceRows, AKernelThatDeclaresItKeepsBitsOnFewerRows) {
  cap_isa(tested_isa());
  std::set<std::string> seen;
  for (const ConformanceCase& c : kConformanceCases) {
    SCOPED_TRACE(c.name);
    for (const std::int64_t rows : {1, 8}) {
      for (const DType type : {DType::f32, DType::bf16, DType::f16}) compare(c, type, rows, seen);
    }
  }
  EXPECT_THAT(seen, ::testing::IsSupersetOf({"cpu_linear", "cpu_linear_dx", "cpu_packed_linear",
                                             "cpu_packed_linear_dx", "cpu_rms_norm", "cpu_silu_mul",
                                             "cpu_half_linear"}));
}

TEST(ConformanceRows, ATileOfRowsRunsTheKernelOfTheWhole) {
  cap_isa(tested_isa());
  const CpuBackend cpu;
  const Target target = Runner::cpu_target();
  const auto kernel_of = [&](const char* attributes) {
    StepModule module;
    module.programs.push_back({"tile", parse_graph(fmt::format(R"(input %x f32[8, 64]
input %w f32[32, 64]
%y = linear(%x, %w, _) {} : f32[8, 32] @ forward
output %y)",
                                                               attributes))});
    KernelChooser chooser(module, cpu, target);
    const auto choice = static_cast<std::size_t>(chooser.choose(0, 0));
    return std::string(chooser.take().at(choice).kernel->name);
  };
  EXPECT_EQ(kernel_of(""), "cpu_small_linear");
  EXPECT_EQ(kernel_of("{whole_rows=8}"), "cpu_small_linear");
  EXPECT_EQ(kernel_of("{whole_rows=40}"), "cpu_linear");
}

}  // namespace
}  // namespace snug::testing
