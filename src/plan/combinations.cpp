#include "plan/combinations.h"

#include "core/error.h"
#include "core/text.h"
#include "passes/update_in_backward.h"

namespace snug {
namespace {

constexpr std::int64_t kShortestRows = 64;

/// The request with all rows of a step in one micro-batch of rows no longer than `length`.
RecipeRequest in_one_micro_batch(const RecipeRequest& request, std::int64_t rows,
                                 std::int64_t length) {
  RecipeRequest one = with_length(request, length);
  one.settings.batch = {.global_batch_size = rows,
                        .per_device_train_batch_size = rows,
                        .gradient_accumulation_steps = std::nullopt};
  return one;
}

struct Nearest {
  std::string text;
  std::int64_t needed_bytes = 0;
};

/// The same step without what stands in the way: the longest rows that fit, else the shortest.
Nearest nearest_with(const RecipeRequest& request, const KernelSource& kernels, std::int64_t rows,
                     bool was_accumulating) {
  Nearest nearest;
  const std::int64_t longest = longest_row(request);
  std::int64_t length = longest;
  for (;; length /= 2) {
    RecipeRequest one = in_one_micro_batch(request, rows, length);
    one.settings.optimizer.max_grad_norm = 0;
    if (one.settings.precision.fp16) one.settings.precision = {.bf16 = true};
    const Recipe recipe = choose_recipe(one, kernels, nullptr);
    nearest.needed_bytes = recipe.needed_bytes;
    if (recipe.fits || length / 2 < kShortestRows) break;
  }
  if (request.settings.optimizer.max_grad_norm > 0) nearest.text = "max_grad_norm=0";
  const auto add = [&](const char* change) {
    if (!nearest.text.empty()) nearest.text += " and ";
    nearest.text += change;
  };
  if (was_accumulating) add("accumulation 1");
  if (request.settings.precision.fp16) add("bf16=true");
  if (length != longest) nearest.text += fmt::format(" at max_length={}", length);
  return nearest;
}

}  // namespace

bool may_accumulate(const Settings& settings) { return !settings.update_in_backward.on; }

void check_combinations(const RecipeRequest& request, const KernelSource& kernels) {
  const BatchShape shape = resolve_batch(request.settings);
  const std::int64_t accumulation = shape.micro ? shape.rows / *shape.micro : 1;
  const std::string why = why_no_update_in_backward(request.settings, accumulation);
  if (why.empty()) return;
  const Nearest nearest = nearest_with(request, kernels, shape.rows, accumulation > 1);
  RecipeRequest kept = request;
  kept.settings.update_in_backward = {};
  const std::int64_t more =
      choose_recipe(kept, kernels, nullptr).needed_bytes - nearest.needed_bytes;
  user_error("{}. Nearest: {}, or keep gradients{}.", why, nearest.text,
             more > 0 ? fmt::format(" (+{})", binary_bytes(more)) : std::string());
}

}  // namespace snug
