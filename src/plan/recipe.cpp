#include "plan/recipe.h"

#include <algorithm>

#include "core/text.h"
#include "passes/nominal_cost.h"
#include "passes/recompute.h"
#include "plan/combinations.h"

namespace snug {
namespace {

/// Advice does not cut rows below this.
constexpr std::int64_t kShortestRows = 64;

/// A step of `accumulation` micro-batches of the longest bucket.
double step_seconds(const StepModule& module, std::int64_t accumulation) {
  if (module.script.buckets.empty()) return 0;
  const StepScript::Bucket& bucket = module.script.buckets.back();
  const auto seconds = [&](std::int32_t program) {
    if (program < 0) return 0.0;
    return nominal_seconds(module.programs[static_cast<std::size_t>(program)].graph);
  };
  if (bucket.whole_step >= 0) return seconds(bucket.whole_step);
  return seconds(bucket.first) + static_cast<double>(accumulation - 1) * seconds(bucket.next) +
         seconds(module.script.update);
}

}  // namespace

StepRequest step_request(const RecipeRequest& request, std::int64_t micro_rows,
                         std::int64_t accumulation) {
  return {.rows = micro_rows,
          .lengths = request.lengths,
          .accumulate = accumulation > 1,
          .evaluation_lengths = request.evaluation_lengths,
          .rope_positions = request.rope_positions};
}

std::int64_t longest_row(const RecipeRequest& request) {
  std::int64_t longest = 0;
  for (const auto* lengths : {&request.lengths, &request.evaluation_lengths}) {
    if (!lengths->empty()) longest = std::max(longest, lengths->back());
  }
  return longest;
}

RecipeRequest with_length(RecipeRequest request, std::int64_t length) {
  for (auto* lengths : {&request.lengths, &request.evaluation_lengths}) {
    if (std::erase_if(*lengths, [&](std::int64_t l) { return l >= length; }) > 0) {
      lengths->push_back(length);
    }
  }
  return request;
}

Recipe compile_recipe(const RecipeRequest& request, const Settings& settings,
                      std::int64_t micro_rows, const KernelSource& kernels, PipelineTrace* trace) {
  Recipe recipe;
  recipe.settings = settings;
  recipe.rows_per_step = resolve_batch(settings).rows;
  recipe.micro_rows = micro_rows;
  recipe.accumulation = recipe.rows_per_step / micro_rows;
  recipe.module = std::make_unique<StepModule>(compile_step(
      request.config, step_request(request, micro_rows, recipe.accumulation), settings, trace));
  recipe.plan = make_plan(*recipe.module, kernels, request.target);
  recipe.estimated_seconds = step_seconds(*recipe.module, recipe.accumulation);
  recipe.outside = outside_bytes(*recipe.module, recipe.plan, request.run);
  recipe.planning_bytes = planning_bytes(*recipe.module, recipe.plan, request.run);
  recipe.needed_bytes = std::max(recipe.plan.arena(Space::device).bytes + recipe.outside.total(),
                                 recipe.planning_bytes);
  recipe.fits = recipe.needed_bytes <= request.budget_bytes;
  return recipe;
}

namespace {

/// Settings changed in one place, as the user would write it.
struct Change {
  std::string text;
  RecipeRequest request;
};

std::vector<Change> single_changes(const RecipeRequest& request) {
  std::vector<Change> changes;
  const auto add = [&](std::string text, auto&& edit) {
    Change change{std::move(text), request};
    edit(change.request);
    changes.push_back(std::move(change));
  };
  if (!is_automatic(request.settings.recompute)) {
    add("activation_checkpointing=auto",
        [](RecipeRequest& r) { r.settings.recompute = automatic_recompute(); });
  }
  const BatchShape shape = resolve_batch(request.settings);
  if (shape.micro && *shape.micro > 1 && may_accumulate(request.settings)) {
    add("per_device_train_batch_size=1", [rows = shape.rows](RecipeRequest& r) {
      r.settings.batch = {.global_batch_size = rows,
                          .per_device_train_batch_size = 1,
                          .gradient_accumulation_steps = std::nullopt};
    });
  }
  if (request.settings.precision.master_weights == MasterWeights::fp32 &&
      request.settings.precision.bf16) {
    add("master_weights=none",
        [](RecipeRequest& r) { r.settings.precision.master_weights = MasterWeights::none; });
  }
  if (!request.settings.precision.bf16 && !request.settings.precision.fp16) {
    add("bf16=true", [](RecipeRequest& r) { r.settings.precision.bf16 = true; });
  }
  return changes;
}

}  // namespace

std::vector<Advice> advise(const RecipeRequest& request, const Recipe& tried,
                           const KernelSource& kernels, std::size_t count) {
  std::vector<Advice> advice;
  const auto consider = [&](const std::string& text, const Recipe& recipe) {
    if (recipe.needed_bytes >= tried.needed_bytes) return;
    // What fits comes first, in the order tried; then the rest, the smallest first.
    const auto place = std::find_if(advice.begin(), advice.end(), [&](const Advice& other) {
      return recipe.fits ? !other.fits : !other.fits && recipe.needed_bytes < other.needed_bytes;
    });
    advice.insert(place, {text, recipe.needed_bytes, recipe.fits});
  };
  for (const Change& change : single_changes(request)) {
    consider(change.text, choose_recipe(change.request, kernels, nullptr));
  }
  // Shorter rows: the longest that fit, else the shortest tried.
  for (std::int64_t length = longest_row(request) / 2; length >= kShortestRows; length /= 2) {
    const RecipeRequest shorter = with_length(request, length);
    const bool last = length / 2 < kShortestRows;
    const Recipe recipe = choose_recipe(shorter, kernels, nullptr);
    if (!recipe.fits && !last) continue;
    consider(fmt::format("max_length={}", length), recipe);
    break;
  }
  if (advice.size() > count) advice.resize(count);
  return advice;
}

std::string describe_misfit(const RecipeRequest& request, const Recipe& tried,
                            const std::vector<Advice>& advice) {
  std::string text =
      fmt::format("does not fit: needs {}, device_memory is {}.", binary_bytes(tried.needed_bytes),
                  binary_bytes(request.budget_bytes));
  std::string fitting;
  std::int64_t smallest = tried.needed_bytes;
  for (const Advice& a : advice) {
    smallest = std::min(smallest, a.needed_bytes);
    if (!a.fits) continue;
    fitting += fmt::format("{}{} {}", fitting.empty() ? "" : " · ", a.change,
                           binary_bytes(a.needed_bytes));
  }
  if (!fitting.empty()) text += " Fits: " + fitting + ".";
  return text + fmt::format(" Smallest found: {}.", binary_bytes(smallest));
}

}  // namespace snug
