#include <fmt/ostream.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "cli/verbs.h"
#include "core/error.h"
#include "core/settings_load.h"
#include "core/text.h"
#include "exec/executor.h"
#include "plan/recipe.h"
#include "plan/recipe_text.h"
#include "train/request.h"
#include "train/step_runner.h"
#include "train/weights.h"

namespace snug {
namespace {

/// Random token ids, every position supervised: row r of the data set is rows [r] of the batch.
Dataset random_rows(std::int64_t rows, std::int64_t length, std::int64_t vocabulary) {
  const RandomStream stream{.seed = 1, .stream = stream_hash("bench/ids")};
  Dataset data;
  TokenRow row;
  for (std::int64_t r = 0; r < rows; ++r) {
    // One token more than is fed: the shift leaves `length` labels, the last row entry unlabelled.
    row.ids.resize(static_cast<std::size_t>(length));
    for (std::int64_t t = 0; t < length; ++t) {
      row.ids[static_cast<std::size_t>(t)] =
          static_cast<std::int32_t>(stream.bits32(static_cast<std::uint64_t>(r * length + t)) %
                                    static_cast<std::uint32_t>(vocabulary));
    }
    row.labels = row.ids;
    data.add(row, {.max_length = length, .vocab_size = vocabulary});
  }
  return data;
}

struct BenchRun {
  std::vector<double> seconds;
  std::vector<double> losses;
};

BenchRun play_steps(StepRunner& runner, const Dataset& data, const Settings& settings,
                    Executor& executor) {
  std::vector<std::int64_t> rows(static_cast<std::size_t>(data.size()));
  for (std::size_t r = 0; r < rows.size(); ++r) rows[r] = static_cast<std::int64_t>(r);
  BenchRun run;
  for (std::int64_t step = 0; step < settings.bench.steps; ++step) {
    if (step == 1) executor.reset_profile();  // the first step warms up
    const auto start = std::chrono::steady_clock::now();
    const StepOutcome outcome = runner.train(data, rows, settings.schedule.learning_rate, step);
    run.seconds.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    run.losses.push_back(outcome.loss());
  }
  return run;
}

double median(std::vector<double> values) {
  if (values.size() > 1) values.erase(values.begin());
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

Settings bench_settings(const Command& command) {
  Settings settings = command.settings;
  const BenchSettings& bench = settings.bench;
  if (!bench.shape.empty()) {
    settings.model.name_or_path = "shape:" + bench.shape;
    settings.model.init = InitWeights::random;
  }
  settings.batch = {.global_batch_size = bench.batch * bench.accumulation,
                    .per_device_train_batch_size = bench.batch,
                    .gradient_accumulation_steps = bench.accumulation};
  return settings;
}

nlohmann::ordered_json times_json(const Executor& executor, std::int64_t steps) {
  nlohmann::ordered_json times = nlohmann::ordered_json::object();
  const double counted = static_cast<double>(std::max<std::int64_t>(1, steps - 1));
  for (const OpTime& time : executor.profile()) {
    times[std::string(op_def(time.op).name)] = time.seconds / counted;
  }
  return times;
}

}  // namespace

int run_bench(const Command& command, Console& console) {
  if (command.words.size() != 1 || command.words.front() != "step") {
    user_error("bench measures a step: snug bench step shape=smol135m batch=4 seq=512 steps=5");
  }
  const Settings settings = bench_settings(command);
  const ModelSource model = open_model(settings.model);
  const std::int64_t rows = settings.bench.batch * settings.bench.accumulation;
  DataSource data;
  data.max_length = settings.bench.sequence;
  data.train = random_rows(rows, settings.bench.sequence, model.config.vocab_size);
  const RunRequest request = make_request(settings, model, data, nullptr);
  const Target& target = request.recipe.target;
  const Recipe recipe = make_recipe(request, model);
  if (!recipe.fits) {
    throw DoesNotFit(describe_misfit(request.recipe, recipe,
                                     advise(request.recipe, recipe, *request.kernels, 5)));
  }
  fmt::print(console.talk, "{}\n", describe_verdict(recipe, request.recipe.budget_bytes));
  ThreadPool pool(target.threads);
  Executor executor(
      recipe.plan, reserve_arenas(recipe.plan, pool), pool,
      {.profile = target.backend != "cuda", .debug = {}, .replay = settings.device.graphs});
  executor.play(recipe.module->script.init);
  const auto bytes = [&](std::string_view name) { return executor.bytes(name); };
  fill_weights(recipe.module->parameters, model, 42, bytes, pool);
  StepRunner runner(recipe, executor);
  const BenchRun run = play_steps(runner, data.train, settings, executor);
  const double seconds = median(run.seconds);
  const double tokens = static_cast<double>(rows * settings.bench.sequence);
  const nlohmann::ordered_json json = {
      {"schema", 1},
      {"model", model.name},
      {"recipe", describe_recipe(recipe)},
      {"isa", name_of(target.isa)},
      {"threads", target.threads},
      {"tokens_per_s", tokens / seconds},
      {"step_s", seconds},
      {"peak_rss_mib", peak_resident_bytes() >> 20},
      {"planned_peak_bytes", recipe.plan.arena(Space::device).bytes},
      {"used_peak_bytes", executor.used_peak(Space::device)},
      {"populate_s", executor.arenas().populate_seconds},
      {"losses", run.losses},
      {"seconds_by_kind", times_json(executor, settings.bench.steps)}};
  if (command.json) {
    fmt::print(console.out, "{}\n", json.dump());
    return kDone;
  }
  fmt::print(console.out, "{:.1f} tokens/s · step {:.4f} s · planned {} · process at most {} MiB\n",
             tokens / seconds, seconds, binary_bytes(recipe.plan.arena(Space::device).bytes),
             peak_resident_bytes() >> 20);
  for (const auto& [op, time] : json["seconds_by_kind"].items()) {
    fmt::print(console.out, "  {:<18} {:>9.2f} ms\n", op, time.get<double>() * 1e3);
  }
  return kDone;
}

}  // namespace snug
