// How long planning takes: the cases that bounds are set for, and how time grows with layers,
// length buckets and tiles. Prints a table in markdown; `plan_bench NAME` runs one case once, for
// profilers.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <functional>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "backend/cpu/cpu_backend.h"
#include "core/settings_load.h"
#include "core/text.h"
#include "model/shapes.h"
#include "plan/recipe.h"

namespace snug {
namespace {

constexpr std::int64_t kGiB = std::int64_t{1} << 30;

struct Case {
  std::string name;
  std::string shape;
  std::string settings;  ///< key=value, a space between two
  std::vector<std::int64_t> lengths;
  int layers = 0;  ///< instead of the shape's; 0: as it is
  std::int64_t budget = 0;
  double bound = 0;     ///< seconds; 0: none
  bool search = false;  ///< else one candidate: micro-batches of one row
};

std::vector<std::int64_t> buckets(int count) {
  std::vector<std::int64_t> lengths;
  for (int i = 1; i <= count; ++i) lengths.push_back(std::int64_t{4096} * i / count);
  return lengths;
}

RecipeRequest request_of(const Case& wanted) {
  std::vector<Assignment> assignments;
  std::istringstream text(wanted.settings);
  for (std::string word; text >> word;) {
    const auto equals = word.find('=');
    assignments.push_back(from_command_line(word.substr(0, equals), word.substr(equals + 1)));
  }
  RecipeRequest request;
  request.config = shape_config(wanted.shape);
  if (wanted.layers > 0) {
    request.config.num_hidden_layers = wanted.layers;
    request.config.sliding_window.assign(static_cast<std::size_t>(wanted.layers), 0);
  }
  request.settings = make_settings(assignments);
  request.lengths = wanted.lengths;
  request.evaluation_lengths = request.lengths;
  request.rope_positions = request.lengths.back();
  request.target = {.backend = "cpu", .isa = Isa::amx, .threads = 2, .libraries = {}};
  request.budget_bytes = wanted.budget > 0 ? wanted.budget : std::int64_t{1} << 50;
  return request;
}

double cpu_seconds() {
  std::timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

struct Outcome {
  double seconds = 0;
  std::int64_t nodes = 0;
  double above_bound = 0;  ///< of the arena, as a part of the most bytes alive
  bool fits = false;
};

Outcome run_once(const Case& wanted, const CpuBackend& kernels) {
  const RecipeRequest request = request_of(wanted);
  const double start = cpu_seconds();
  const Recipe recipe = wanted.search
                            ? choose_recipe(request, kernels, nullptr)
                            : compile_recipe(request, request.settings, 1, kernels, nullptr);
  Outcome outcome;
  outcome.seconds = cpu_seconds() - start;
  for (const Program& program : recipe.module->programs) {
    outcome.nodes += static_cast<std::int64_t>(program.graph.nodes.size());
  }
  const ArenaPlan& arena = recipe.plan.arena(Space::device);
  outcome.above_bound =
      static_cast<double>(arena.bytes) / static_cast<double>(arena.lower_bound) - 1;
  outcome.fits = recipe.fits;
  return outcome;
}

Outcome best_of(const Case& wanted, const CpuBackend& kernels, int rounds) {
  Outcome best = run_once(wanted, kernels);
  for (int i = 1; i < rounds; ++i) {
    best.seconds = std::min(best.seconds, run_once(wanted, kernels).seconds);
  }
  return best;
}

std::vector<Case> bounded() {
  return {
      {"70b-8-buckets", "llama-3-70b", "activation_checkpointing=true", buckets(8), 0, 0, 0.4},
      {"70b-mlp-chunks-64",
       "llama-3-70b",
       "activation_checkpointing=true mlp_chunks=64",
       {4096},
       0,
       0,
       1.0},
      {"8b-lora-auto-131072",
       "llama-3.1-8b",
       "finetuning_type=lora activation_checkpointing=auto per_device_train_batch_size=1",
       {131072},
       0,
       80 * kGiB,
       0.5,
       true},
      {"70b-8-buckets-search", "llama-3-70b", "activation_checkpointing=auto global_batch_size=8",
       buckets(8), 0, 1160 * kGiB, 2.0, true},
      {"405b", "llama-3.1-405b", "activation_checkpointing=true", {4096}, 0, 0, 0.5},
  };
}

std::vector<std::vector<Case>> doublings() {
  std::vector<std::vector<Case>> rows(3);
  const std::string settings = "activation_checkpointing=true";
  for (const int layers : {16, 32, 64, 128, 256}) {
    rows[0].push_back({fmt::format("layers-{}", layers), "llama-3-70b", settings, {4096}, layers});
  }
  for (const int count : {1, 2, 4, 8, 16}) {
    rows[1].push_back({fmt::format("buckets-{}", count), "llama-3-70b", settings, buckets(count)});
  }
  for (const int tiles : {4, 8, 16, 32, 64}) {
    rows[2].push_back({fmt::format("tiles-{}", tiles),
                       "llama-3-70b",
                       fmt::format("{} mlp_chunks={}", settings, tiles),
                       {4096},
                       20});
  }
  return rows;
}

int run_one(const std::string& name, const CpuBackend& kernels) {
  std::vector<Case> cases = bounded();
  for (const auto& row : doublings()) cases.insert(cases.end(), row.begin(), row.end());
  for (const Case& wanted : cases) {
    if (wanted.name != name) continue;
    const Outcome outcome = run_once(wanted, kernels);
    fmt::print("{}: {:.3f} s, {} nodes, {:.3f} % above the bound{}\n", name, outcome.seconds,
               outcome.nodes, 100 * outcome.above_bound, outcome.fits ? "" : ", does not fit");
    return 0;
  }
  for (const Case& wanted : cases) fmt::print("{}\n", wanted.name);
  return 2;
}

int run_all(const CpuBackend& kernels, int rounds) {
  bool held = true;
  fmt::print("| case | settings | nodes | CPU seconds | bound | arena above its lower bound |\n");
  fmt::print("|---|---|---|---|---|---|\n");
  for (const Case& wanted : bounded()) {
    const Outcome outcome = best_of(wanted, kernels, rounds);
    held = held && outcome.seconds <= wanted.bound;
    fmt::print("| {} | {} {} | {} | {:.3f} | {:.1f} | {:.3f} % |\n", wanted.name, wanted.shape,
               wanted.settings, group_digits(outcome.nodes), outcome.seconds, wanted.bound,
               100 * outcome.above_bound);
  }
  fmt::print(
      "\n| growth | CPU seconds | exponent over four doublings | bound |\n|---|---|---|---|\n");
  for (const auto& row : doublings()) {
    std::string times;
    std::vector<double> seconds;
    for (const Case& wanted : row) {
      seconds.push_back(best_of(wanted, kernels, rounds).seconds);
      times += fmt::format("{}{:.3f}", times.empty() ? "" : " · ", seconds.back());
    }
    const double exponent = std::log2(seconds.back() / seconds.front()) / 4;
    held = held && exponent <= 1.15;
    fmt::print("| {} to {} | {} | {:.2f} | 1.15 |\n", row.front().name, row.back().name, times,
               exponent);
  }
  return held ? 0 : 1;
}

}  // namespace
}  // namespace snug

int main(int argc, char** argv) {
  const snug::CpuBackend kernels;
  if (argc > 1) return snug::run_one(argv[1], kernels);
  return snug::run_all(kernels, 5);
}
