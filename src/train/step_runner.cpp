#include "train/step_runner.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "passes/optimizer.h"

namespace snug {
namespace {

/// Of these lengths, the shortest that holds every row.
std::int32_t bucket_for(std::span<const std::int64_t> lengths, const Dataset& data,
                        std::span<const std::int64_t> rows) {
  std::int64_t longest = 0;
  for (const std::int64_t row : rows) longest = std::max(longest, data.length(row));
  return bucket_of(lengths, longest);
}

}  // namespace

StepRunner::StepRunner(const Recipe& recipe, Executor& executor)
    : recipe_(recipe), executor_(executor) {
  for (const StepScript::Bucket& bucket : recipe.module->script.buckets) {
    lengths_.push_back(bucket.length);
  }
  for (const StepScript::Evaluation& evaluation : recipe.module->script.evaluations) {
    evaluation_lengths_.push_back(evaluation.length);
  }
  slot_buckets_.reserve(static_cast<std::size_t>(recipe.accumulation));
  calls_.reserve(static_cast<std::size_t>(recipe.accumulation) + 1);
}

std::span<const std::int64_t> StepRunner::slot_rows(std::span<const std::int64_t> rows,
                                                    std::size_t slot) const {
  const auto size = static_cast<std::size_t>(recipe_.micro_rows);
  const std::size_t begin = slot * size;
  return rows.subspan(begin, std::min(size, rows.size() - begin));
}

void StepRunner::set_scalars(double learning_rate, std::int64_t applied, std::int64_t labels,
                             double loss_scale) {
  set_update_scalars(recipe_.settings.optimizer, learning_rate, applied,
                     [&](const char* name, float value) { set(name, value); });
  const double weight = labels == 0 ? 0.0 : loss_scale / static_cast<double>(labels);
  set("scalar/loss_weight", static_cast<float>(weight));
  set("scalar/inverse_scale", static_cast<float>(1.0 / loss_scale));
  set("scalar/apply", static_cast<std::int32_t>(labels > 0 ? 1 : 0));
}

void StepRunner::fill(std::int32_t program, const Dataset& data, std::span<const std::int64_t> rows,
                      std::int64_t length) {
  const auto input = [&](const char* name) { return executor_.value<std::int32_t>(program, name); };
  // Whose a token is: what is drawn for it depends on no micro-batch and no packing.
  const bool numbered = executor_.plan().has_location(program, "input/rows");
  fill_micro_batch(data, rows, length,
                   {.ids = input("input/ids"),
                    .labels = input("input/labels"),
                    .positions = input("input/positions"),
                    .doc_start = input("input/doc_start"),
                    .rows = numbered ? input("input/rows") : std::span<std::int32_t>()});
}

void StepRunner::read_outcome(std::int32_t program, StepOutcome& outcome) const {
  outcome.grad_norm = executor_.value<float>(program, "metric/grad_norm")[0];
  outcome.applied = executor_.value<std::int32_t>(program, "metric/applied")[0] != 0;
  outcome.overflowed = executor_.value<std::int32_t>(program, "metric/finite")[0] == 0;
  outcome.finite = !outcome.overflowed && std::isfinite(outcome.loss_sum);
}

StepMemory StepRunner::used_memory() const {
  StepMemory memory;
  for (const ScriptCall& call : calls_) {
    // A program's addresses are the same in every play.
    const auto raise = [&](std::int64_t& to, Phase phase) {
      to = std::max(to, executor_.used_peak(call.program, phase, Space::device));
    };
    raise(memory.forward, Phase::forward);
    raise(memory.backward, Phase::backward);
    raise(memory.update, Phase::update);
  }
  return memory;
}

StepOutcome StepRunner::train(const Dataset& data, std::span<const std::int64_t> rows,
                              double learning_rate, std::int64_t applied, double loss_scale) {
  StepOutcome outcome;
  for (const std::int64_t row : rows) {
    outcome.labels += data.label_count(row);
    outcome.tokens += data.length(row);
  }
  const auto micro = static_cast<std::size_t>(recipe_.micro_rows);
  const std::size_t slots = (rows.size() + micro - 1) / micro;
  slot_buckets_.clear();
  for (std::size_t slot = 0; slot < slots; ++slot) {
    slot_buckets_.push_back(bucket_for(lengths_, data, slot_rows(rows, slot)));
    outcome.padded += recipe_.micro_rows * lengths_[static_cast<std::size_t>(slot_buckets_.back())];
  }
  recipe_.module->script.expand(slot_buckets_, calls_);
  set_scalars(learning_rate, applied, outcome.labels, loss_scale);
  for (const ScriptCall& call : calls_) {
    const std::int64_t slot = std::max(call.slot, 0);
    set("scalar/draw", applied | (slot << 32));
    if (call.slot >= 0) {
      const auto bucket = static_cast<std::size_t>(slot_buckets_[static_cast<std::size_t>(slot)]);
      fill(call.program, data, slot_rows(rows, static_cast<std::size_t>(slot)), lengths_[bucket]);
    }
    executor_.play(call.program);
    if (call.slot >= 0) {
      outcome.loss_sum +=
          static_cast<double>(executor_.value<float>(call.program, "metric/loss")[0]);
    }
  }
  read_outcome(calls_.back().program, outcome);
  outcome.memory = used_memory();
  return outcome;
}

EvaluationOutcome StepRunner::evaluate(const Dataset& data) {
  EvaluationOutcome outcome;
  std::vector<std::int64_t> rows;
  for (std::int64_t begin = 0; begin < data.size(); begin += recipe_.micro_rows) {
    rows.clear();
    for (std::int64_t r = begin; r < std::min(begin + recipe_.micro_rows, data.size()); ++r) {
      rows.push_back(r);
      outcome.labels += data.label_count(r);
    }
    const auto bucket = static_cast<std::size_t>(bucket_for(evaluation_lengths_, data, rows));
    const auto& [_, length, program] = recipe_.module->script.evaluations[bucket];
    fill(program, data, rows, length);
    executor_.play(program);
    outcome.loss_sum += static_cast<double>(executor_.value<float>(program, "metric/loss")[0]);
  }
  return outcome;
}

}  // namespace snug
