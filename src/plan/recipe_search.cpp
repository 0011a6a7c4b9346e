// The search behind choose_recipe.
#include <algorithm>
#include <iterator>
#include <map>
#include <optional>

#include "core/text.h"
#include "passes/nominal_cost.h"
#include "passes/recompute.h"
#include "passes/recompute_limit.h"
#include "plan/combinations.h"
#include "plan/recipe.h"

namespace snug {
namespace {

/// Plans of one micro-batch before the search turns to another.
constexpr int kAttempts = 5;

std::vector<std::int64_t> micro_candidates(const RecipeRequest& request) {
  const BatchShape shape = resolve_batch(request.settings);
  if (shape.micro) return {*shape.micro};
  if (!may_accumulate(request.settings)) return {shape.rows};
  std::vector<std::int64_t> candidates;
  for (std::int64_t micro = shape.rows; micro >= 1; --micro) {
    if (shape.rows % micro == 0) candidates.push_back(micro);
  }
  return candidates;
}

/// A micro-batch size, with what may be recomputed and an estimate of its bytes and time.
class Option {
 public:
  Option(const RecipeRequest& request, std::int64_t rows, std::int64_t micro)
      : micro_(micro), accumulation_(rows / micro) {
    const StepRequest step = step_request(request, micro, accumulation_);
    const Graph graph = graph_before_recompute(request.config, step, request.settings);
    choices_.emplace(graph);
    for (const Node& node : graph.nodes) {
      const double seconds = nominal_seconds(cost_of(graph, node));
      if (node.phase == Phase::update) update_seconds_ += seconds;
      if (node.phase == Phase::forward || node.phase == Phase::backward) micro_seconds_ += seconds;
    }
    high_ = choices_->count();
  }

  std::int64_t micro() const { return micro_; }
  std::size_t choice() const { return choice_; }
  bool keeps_all() const { return choice_ + 1 == choices_->count(); }

  /// Of a step with the present choice.
  double seconds() const {
    return static_cast<double>(accumulation_) * (micro_seconds_ + choices_->seconds(choice_)) +
           update_seconds_;
  }

  /// Bytes of what is not held through the run, without scratch.
  std::int64_t bytes(std::size_t choice) {
    const LivePeak& peak = peak_of(choice);
    return accumulation_ > 1 ? peak.gradients + peak.activations : peak.with_gradients;
  }

  /// Moves to the last choice, below those known not to fit, whose bytes are at most `room`; false
  /// when there is none.
  bool choose(std::int64_t room) {
    choice_ = choices_->last([&](std::size_t c) { return c < high_ && bytes(c) <= room; });
    return choice_ < high_ && bytes(choice_) <= room;
  }
  /// The present choice did not fit.
  void exclude() { high_ = choice_; }

  Settings with_choice(Settings settings) {
    settings.recompute =
        keeps_all() ? nothing_recomputed() : recompute_under(peak_of(choice_).activations);
    return settings;
  }

  std::int64_t tightest_limit() { return peak_of(0).activations; }

 private:
  const LivePeak& peak_of(std::size_t choice) {
    auto known = peaks_.find(choice);
    if (known == peaks_.end()) known = peaks_.emplace(choice, choices_->peak(choice)).first;
    return known->second;
  }

  std::int64_t micro_;
  std::int64_t accumulation_;
  std::optional<RecomputeChoices> choices_;
  std::map<std::size_t, LivePeak> peaks_;
  double micro_seconds_ = 0;
  double update_seconds_ = 0;
  std::size_t choice_ = 0;
  std::size_t high_ = 0;
};

/// What the search remembers of a recipe: a compiled one is as large as all its graphs.
struct Judged {
  Settings settings;
  std::int64_t micro = 0;
  std::int64_t needed_bytes = 0;
  std::int64_t playing_bytes = 0;  ///< of these, once there is an arena
  double seconds = 0;
  bool fits = false;
  int serial = 0;  ///< of the compilation
};

/// At most one compiled recipe exists at a time.
class RecipeSearch {
 public:
  RecipeSearch(const RecipeRequest& request, const KernelSource& kernels, PipelineTrace* trace)
      : request_(request),
        kernels_(kernels),
        trace_(trace),
        rows_(resolve_batch(request.settings).rows),
        micros_(micro_candidates(request)),
        longest_(request) {
    longest_.lengths = {request.lengths.back()};
  }

  /// Candidates are judged by the longest bucket, which mostly needs most, the one that is chosen
  /// by all.
  Recipe run() {
    const bool open = micros_.size() > 1 || is_automatic(request_.settings.recompute);
    by_all_ = request_.lengths.size() == 1 || !open;
    Judged chosen = search();
    if (!by_all_) {
      by_all_ = true;
      const Judged whole = plan(chosen.settings, chosen.micro);
      chosen = whole.fits || !chosen.fits ? whole : search();
    }
    if (chosen.serial != serial_) plan(chosen.settings, chosen.micro);
    return std::move(*last_);
  }

 private:
  Judged search() {
    if (!is_automatic(request_.settings.recompute)) return search_micros();
    // The largest micro-batch with nothing recomputed is the fastest there is: mostly it fits.
    Settings plain = request_.settings;
    plain.recompute = nothing_recomputed();
    Judged best = plan(plain, micros_.front());
    if (best.fits) return best;
    // The smallest micro-batch with all recomputed needs least: mostly, when it does not fit,
    // nothing does.
    Option smallest(request_, rows_, micros_.back());
    Judged least = plan(smallest.with_choice(request_.settings), micros_.back());
    // More recomputing makes longer programs: less may fit where making their plan does not.
    if (least.playing_bytes > request_.budget_bytes) {
      return least.needed_bytes < best.needed_bytes ? least : best;
    }
    room_ = request_.budget_bytes - (least.playing_bytes - smallest.bytes(0));
    return search_choices(std::move(least), std::move(smallest));
  }

  Judged plan(const Settings& settings, std::int64_t micro) {
    last_.reset();
    last_ = compile_recipe(by_all_ ? request_ : longest_, settings, micro, kernels_,
                           by_all_ ? trace_ : nullptr);
    return {.settings = settings,
            .micro = micro,
            .needed_bytes = last_->needed_bytes,
            .playing_bytes = last_->plan.arena(Space::device).bytes + last_->outside.total(),
            .seconds = last_->estimated_seconds,
            .fits = last_->fits,
            .serial = ++serial_};
  }

  /// What is recomputed is given: of the micro-batches that fit, the fastest.
  Judged search_micros() {
    std::vector<std::int64_t> micros = micros_;
    if (const auto limit = limit_of(request_.settings.recompute)) drop_impossible(micros, *limit);
    std::optional<Judged> best;
    for (const std::int64_t micro : micros) {
      const Judged recipe = plan(request_.settings, micro);
      const bool better =
          !best || (recipe.fits && !best->fits) ||
          (recipe.fits == best->fits && (recipe.fits ? recipe.seconds < best->seconds
                                                     : recipe.needed_bytes < best->needed_bytes));
      if (better) best = recipe;
      // A smaller micro-batch only reads the weights more often, unless a limit binds the larger.
      if (best->fits && !limit_of(request_.settings.recompute)) break;
    }
    return std::move(*best);
  }

  void drop_impossible(std::vector<std::int64_t>& micros, std::int64_t limit) const {
    std::int64_t tightest = 0;
    std::erase_if(micros, [&](std::int64_t micro) {
      tightest = Option(request_, rows_, micro).tightest_limit();
      return tightest > limit;
    });
    if (micros.empty()) refuse_limit(limit, tightest);
  }

  /// Both are open: from the estimates, the fastest first, until a plan fits.
  Judged search_choices(Judged least, Option smallest) {
    std::vector<Option> options;
    const auto enough = [&](Option option) {
      if (!option.choose(room_)) return false;
      options.push_back(std::move(option));
      return options.back().keeps_all();  // a smaller micro-batch would spare nothing
    };
    // The last of the micro-batches is that of `smallest`.
    if (std::none_of(micros_.begin(), std::prev(micros_.end()),
                     [&](std::int64_t micro) { return enough(Option(request_, rows_, micro)); })) {
      enough(std::move(smallest));
    }
    for (int attempts = 0; !options.empty() && attempts < kAttempts * 2; ++attempts) {
      const auto fastest = std::min_element(
          options.begin(), options.end(),
          [](const Option& a, const Option& b) { return a.seconds() < b.seconds(); });
      Judged recipe = plan(fastest->with_choice(request_.settings), fastest->micro());
      if (recipe.fits) return with_less(std::move(recipe), *fastest);
      const std::int64_t room = room_after(recipe, *fastest);
      fastest->exclude();
      if (!fastest->choose(room)) options.erase(fastest);
    }
    return least;
  }

  /// Bytes left for what the estimate counts, as the plan of the option's present choice shows.
  std::int64_t room_after(const Judged& recipe, Option& option) const {
    return request_.budget_bytes - (recipe.playing_bytes - option.bytes(option.choice()));
  }

  /// One more look: the plan may have left room for keeping more.
  Judged with_less(Judged recipe, Option option) {
    const std::size_t known = option.choice();
    if (!option.choose(room_after(recipe, option)) || option.choice() <= known) return recipe;
    Judged other = plan(option.with_choice(request_.settings), option.micro());
    return other.fits ? other : recipe;
  }

  const RecipeRequest& request_;
  const KernelSource& kernels_;
  PipelineTrace* trace_;
  std::int64_t rows_;
  std::vector<std::int64_t> micros_;
  RecipeRequest longest_;
  bool by_all_ = false;    ///< plans have all buckets
  std::int64_t room_ = 0;  ///< of the budget, for what estimates count
  std::optional<Recipe> last_;
  int serial_ = 0;  ///< of `last_`
};

}  // namespace

Recipe choose_recipe(const RecipeRequest& request, const KernelSource& kernels,
                     PipelineTrace* trace) {
  if (request.lengths.empty()) {
    const std::int64_t rows = resolve_batch(request.settings).rows;
    return compile_recipe(request, request.settings, rows, kernels, trace);
  }
  check_combinations(request, kernels);
  return RecipeSearch(request, kernels, trace).run();
}

}  // namespace snug
