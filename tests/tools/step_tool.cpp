// Loss, gradients and logits of a model folder on rows of tokens, for the parity suite to compare
// with transformers. Exit status 1 with the message for a UserError.
//   step_tool gradients MODEL ROWS.jsonl OUT.safetensors [key=value ...]
//     per_device_train_batch_size rows a micro-batch (default: all); OUT has metric/loss (the mean)
//     and NAME.grad of every trained parameter, of the mean over the labels of all rows;
//     flops/recomputed are those of one micro-batch of the longest bucket.
//   step_tool logits MODEL ROWS.jsonl OUT.safetensors [key=value ...]
//     OUT has logits/ROW, tokens x vocabulary, of every row.

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "core/error.h"
#include "core/settings_load.h"
#include "data/batches.h"
#include "exec/executor.h"
#include "io/model_writer.h"
#include "passes/pipeline.h"
#include "passes/recompute.h"
#include "plan/plan.h"
#include "train/run_setup.h"
#include "train/weights.h"

namespace snug {
namespace {

struct Tensor {
  TensorSpec spec;
  std::vector<std::byte> bytes;
};

std::span<std::byte> bytes_of(const Executor& executor, std::string_view name) {
  return executor.bytes(name);
}

Tensor copy_of(std::string name, TensorType type, std::span<const std::byte> bytes) {
  const auto dims = type.shape.dims();
  return {{std::move(name), type.dtype, {dims.begin(), dims.end()}}, {bytes.begin(), bytes.end()}};
}

void write_tensors(const std::string& path, const std::vector<Tensor>& tensors) {
  std::vector<TensorSpec> specs;
  std::map<std::string, const Tensor*> by_name;
  for (const Tensor& tensor : tensors) {
    specs.push_back(tensor.spec);
    by_name[tensor.spec.name] = &tensor;
  }
  write_safetensors(path, specs, [&](const TensorSpec& spec, ModelFolderWriter::Sink sink) {
    sink(by_name.at(spec.name)->bytes);
  });
}

/// A model with rows to play, and programs over its weights.
class Session {
 public:
  Session(const std::string& folder, const std::string& rows, Settings settings)
      : settings_(std::move(settings)) {
    settings_.model.name_or_path = folder;
    settings_ = with_adapter(std::move(settings_));
    settings_.data.train_files = {rows};
    model_ = open_model(settings_.model);
    adopt_quantization(settings_, model_);
    data_ = open_data(settings_, model_).train;
    target_ = make_target(settings_.device);
    kernels_ = make_backend(target_);
    pool_ = std::make_unique<ThreadPool>(target_.threads);
  }

  std::vector<Tensor> gradients() {
    const std::int64_t micro = settings_.batch.per_device_train_batch_size.value_or(data_.size());
    const StepRequest request{.rows = micro,
                              .lengths = choose_buckets(data_, settings_.data.bucket_count),
                              .accumulate = true,
                              .evaluation_lengths = {},
                              .rope_positions = data_.counts().longest};
    const StepModule module = compile_step(model_.config, request, settings_, nullptr);
    const Plan plan = make_plan(module, *kernels_, target_);
    Executor executor(plan, reserve_arenas(plan, *pool_), *pool_);
    start(module, executor);
    const double loss = play_micro_batches(module.script, request, executor);
    std::vector<Tensor> tensors;
    const auto mean = static_cast<float>(loss / labels());
    tensors.push_back(
        copy_of("metric/loss", {DType::f32, Shape{}}, std::as_bytes(std::span(&mean, 1))));
    const std::int64_t recomputed =
        recomputed_flops(plan.graph(module.script.buckets.back().first));
    tensors.push_back(copy_of("flops/recomputed", {DType::i64, Shape{}},
                              std::as_bytes(std::span(&recomputed, 1))));
    for (const Parameter& parameter : module.parameters) {
      if (!parameter.trainable) continue;
      const std::string name = parameter.name + ".grad";
      tensors.push_back(copy_of(name, plan.location(name).layout.type, bytes_of(executor, name)));
    }
    return tensors;
  }

  /// All that is stored of the weights, and what packed ones stand for, as NAME.dequantized.
  std::vector<Tensor> weights() {
    const StepModule module = compile_generation(
        model_.config, {.tokens = 1, .cache_rows = 1, .logit_rows = 1}, settings_);
    const Plan plan = make_plan(module, *kernels_, target_);
    Executor executor(plan, reserve_arenas(plan, *pool_), *pool_);
    start(module, executor);
    std::vector<Tensor> tensors;
    for (const Parameter& parameter : module.parameters) {
      std::vector<std::span<std::byte>> parts;
      for (const StorageComponent& part : parameter.storage) {
        parts.push_back(bytes_of(executor, part.value));
        tensors.push_back(copy_of(part.value, part.type, parts.back()));
      }
      const auto format = packed_format_from_name(parameter.storage.front().format);
      if (format) tensors.push_back(dequantized(parameter, *format, parts));
    }
    return tensors;
  }

  std::vector<Tensor> logits() {
    std::vector<Tensor> tensors;
    for (std::int64_t row = 0; row < data_.size(); ++row) {
      const std::int64_t length = data_.length(row);
      const StepModule module = compile_generation(
          model_.config, {.tokens = length, .cache_rows = length, .logit_rows = length}, settings_);
      const Plan plan = make_plan(module, *kernels_, target_);
      Executor executor(plan, reserve_arenas(plan, *pool_), *pool_);
      start(module, executor);
      const std::int32_t prefill = module.script.buckets.front().first;
      const auto input = [&](const char* name) {
        return executor.value<std::int32_t>(prefill, name);
      };
      std::ranges::copy(data_.ids(row), input("input/ids").begin());
      for (const char* name : {"input/positions", "input/logit_rows"}) {
        std::iota(input(name).begin(), input(name).end(), 0);
      }
      executor.value<std::int32_t>("scalar/position")[0] = 0;
      executor.play(prefill);
      tensors.push_back(copy_of(fmt::format("logits/{}", row),
                                plan.location(prefill, "metric/logits").layout.type,
                                std::as_bytes(executor.value<float>(prefill, "metric/logits"))));
    }
    return tensors;
  }

 private:
  static Tensor dequantized(const Parameter& parameter, PackedFormat format,
                            std::span<const std::span<std::byte>> parts) {
    const Shape shape = parameter.type.shape;
    const bool nested = parts.size() > 2;
    const PackedMatrix matrix{
        .format = format,
        .rows = shape[0],
        .columns = shape[1],
        .codes = reinterpret_cast<const std::uint8_t*>(parts[0].data()),
        .scales = parts[1].data(),
        .nested = nested ? reinterpret_cast<const float*>(parts[2].data()) : nullptr,
        .offset = nested ? *reinterpret_cast<const float*>(parts[3].data()) : 0.0F};
    std::vector<float> values;
    for (std::int64_t i = 0; i < shape.elements(); ++i) {
      values.push_back(matrix.element(i / shape[1], i % shape[1]));
    }
    return copy_of(parameter.name + ".dequantized", {DType::f32, shape},
                   std::as_bytes(std::span(values)));
  }

  /// Init follows the weights, as in generation: masters and moments are not read here.
  void start(const StepModule& module, Executor& executor) const {
    fill_weights(
        module.parameters, model_, static_cast<std::uint64_t>(settings_.run.seed),
        [&](std::string_view name) { return bytes_of(executor, name); }, *pool_);
    executor.play(module.script.init);
  }

  double labels() const {
    std::int64_t count = 0;
    for (std::int64_t row = 0; row < data_.size(); ++row) count += data_.label_count(row);
    return static_cast<double>(count);
  }

  /// All rows, in order; returns the sum of the cross-entropies.
  double play_micro_batches(const StepScript& script, const StepRequest& request,
                            Executor& executor) const {
    executor.value<float>("scalar/loss_weight")[0] = static_cast<float>(1.0 / labels());
    double loss = 0;
    for (std::int64_t begin = 0; begin < data_.size(); begin += request.rows) {
      std::vector<std::int64_t> rows(
          static_cast<std::size_t>(std::min(request.rows, data_.size() - begin)));
      std::iota(rows.begin(), rows.end(), begin);
      std::int64_t longest = 0;
      for (const std::int64_t row : rows) longest = std::max(longest, data_.length(row));
      const StepScript::Bucket& bucket =
          script.buckets[static_cast<std::size_t>(bucket_of(request.lengths, longest))];
      const std::int32_t program = begin == 0 ? bucket.first : bucket.next;
      const auto input = [&](const char* name) {
        return executor.value<std::int32_t>(program, name);
      };
      fill_micro_batch(data_, rows, bucket.length,
                       {input("input/ids"), input("input/labels"), input("input/positions"),
                        input("input/doc_start")});
      if (executor.plan().has_location("scalar/draw")) {
        executor.value<std::int64_t>("scalar/draw")[0] = (begin / request.rows) << 32;
      }
      executor.play(program);
      loss += static_cast<double>(executor.value<float>(program, "metric/loss")[0]);
    }
    return loss;
  }

  Settings settings_;
  ModelSource model_;
  Dataset data_;
  Target target_;
  std::unique_ptr<KernelSource> kernels_;
  std::unique_ptr<ThreadPool> pool_;
};

void run(const std::vector<std::string>& words) {
  const bool known =
      !words.empty() && (words[0] == "gradients" || words[0] == "logits" || words[0] == "weights");
  if (words.size() < 4 || !known) {
    user_error("usage: gradients|logits|weights MODEL ROWS.jsonl OUT.safetensors [key=value ...]");
  }
  std::vector<Assignment> assignments;
  for (std::size_t i = 4; i < words.size(); ++i) {
    const std::size_t equals = words[i].find('=');
    if (equals == std::string::npos) user_error("'{}' is no key=value.", words[i]);
    assignments.push_back(
        from_command_line(words[i].substr(0, equals), words[i].substr(equals + 1)));
  }
  Session session(words[1], words[2], make_settings(assignments));
  write_tensors(words[3], words[0] == "logits"    ? session.logits()
                          : words[0] == "weights" ? session.weights()
                                                  : session.gradients());
}

}  // namespace
}  // namespace snug

int main(int argc, char** argv) {
  try {
    snug::run({argv + 1, argv + argc});
    return 0;
  } catch (const snug::UserError& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
