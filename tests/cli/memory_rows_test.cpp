// The memory table: what each recipe of bench/memory_rows.json needs on a fixed target, to the byte
// as recorded, within its bound, and with no more recomputing than one and a half forward passes.

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "backend/cpu/cpu_backend.h"
#include "core/settings_load.h"
#include "model/shapes.h"
#include "passes/recompute.h"
#include "plan/notes.h"
#include "plan/recipe.h"

namespace snug {
namespace {

using nlohmann::json;

std::vector<json> table_rows() {
  std::ifstream file(std::string(SNUG_TEST_DATA) + "/../../bench/memory_rows.json");
  return json::parse(file).at("rows").get<std::vector<json>>();
}

Settings settings_of(const json& row) {
  std::vector<Assignment> assignments;
  assignments.push_back(from_command_line("gradient_accumulation_steps", "1"));
  assignments.push_back(from_command_line("per_device_train_batch_size", row.at("rows").dump()));
  for (const auto& setting : row.at("settings")) {
    const auto text = setting.get<std::string>();
    const auto equals = text.find('=');
    assignments.push_back(from_command_line(text.substr(0, equals), text.substr(equals + 1)));
  }
  return make_settings(assignments);
}

Recipe planned(const json& row) {
  const Settings settings = settings_of(row);
  const auto length = row.at("length").get<std::int64_t>();
  const auto shape = row.at("model").get<std::string>();
  const RecipeRequest request{
      .config = shape_config(shape.substr(shape.find(':') + 1)),
      .settings = settings,
      .lengths = {length},
      .evaluation_lengths = {length},
      .rope_positions = length,
      .target = {.backend = "cpu", .isa = Isa::amx, .threads = 2, .libraries = ""}};
  return compile_recipe(request, settings, row.at("rows").get<std::int64_t>(), CpuBackend(),
                        nullptr);
}

/// Bytes that a layer keeps for backward.
std::int64_t saved_by_layer(const Recipe& recipe, int layer) {
  for (const SavedLayer& row : saved_for_backward(recipe.plan, micro_program(recipe))) {
    if (row.layer == layer) return row.bytes;
  }
  return 0;
}

class MemoryRow : public testing::TestWithParam<std::size_t> {};

TEST_P(MemoryRow, IsPlannedAsRecordedAndWithinItsBounds) {
  const json row = table_rows().at(GetParam());
  SCOPED_TRACE(row.at("name").get<std::string>());
  const Recipe recipe = planned(row);
  const std::int32_t step = recipe.module->script.buckets.back().whole_step;
  const std::int64_t bytes = row.contains("layer")
                                 ? saved_by_layer(recipe, row.at("layer").get<int>())
                                 : recipe.plan.arena(Space::device).bytes;
  EXPECT_EQ(bytes, row.at("bytes").get<std::int64_t>());
  const std::int64_t bound = row.value("at_most", bytes);
  EXPECT_LE(bytes, bound);
  const Graph& graph = recipe.module->programs[static_cast<std::size_t>(step)].graph;
  EXPECT_LE(static_cast<double>(recomputed_flops(graph)),
            1.5 * static_cast<double>(forward_flops(graph)));
}

INSTANTIATE_TEST_SUITE_P(Table, MemoryRow, testing::Range(std::size_t{0}, table_rows().size()));

}  // namespace
}  // namespace snug
