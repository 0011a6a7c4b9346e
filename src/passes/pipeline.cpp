#include "passes/pipeline.h"

#include <algorithm>

#include "passes/accumulate.h"
#include "passes/autodiff.h"
#include "passes/chunk_loss.h"
#include "passes/extract.h"
#include "passes/freeze.h"
#include "passes/lora.h"
#include "passes/loss_scale.h"
#include "passes/mlp_chunks.h"
#include "passes/optimizer.h"
#include "passes/precision.h"
#include "passes/quantize.h"
#include "passes/recompute.h"
#include "passes/update_in_backward.h"

namespace snug {
namespace {

/// The pass, or nothing done under its name.
Pass when(bool wanted, Pass pass) {
  if (!wanted) pass.run = nullptr;
  return pass;
}

Pass adapters_pass(const Settings& settings, AdapterUse use) {
  return when(settings.model.finetuning == FinetuningType::lora,
              lora_pass(settings.lora, settings.run.seed, use));
}

bool frozen_by_layer(const Settings& settings) {
  return settings.model.finetuning == FinetuningType::freeze;
}

}  // namespace

std::vector<Pass> training_passes(const Settings& settings) {
  return {
      // The parameters and which of them are trained: all later passes read that table. Adapters
      // are parameters too, so what is frozen by name comes after them.
      adapters_pass(settings, AdapterUse::training),
      freeze_pass(settings.freeze, frozen_by_layer(settings)),
      // Storage types first: every later rule reads types.
      precision_pass(settings.precision),
      // Frozen weights of known type become codes; what is differentiated no longer holds them.
      quantize_pass(settings.quantization),
      // The chunk is an attribute of the loss op; its gradient rule copies it.
      chunk_loss_pass(settings.loss),
      // Loss graph to loss and gradients. What backward reads is now visible.
      autodiff_pass(gradient_dtype(settings.precision), settings.run.seed),
      // Updates read complete gradients, so they come after all of backward.
      optimizer_pass(settings.optimizer, settings.run.seed),
      // fp16: what the update divides by was multiplied into the loss.
      loss_scale_pass(needs_loss_scale(settings.precision)),
      // Moves updates before recompute measures what is alive.
      update_in_backward_pass(settings.update_in_backward),
      // After it nothing may merge equal nodes: that would undo it.
      recompute_pass(settings.recompute),
      // What is computed again in backward can be in tiles there; what is kept is kept whole.
      mlp_chunks_pass(settings.mlp_chunks, settings.run.seed),
  };
}

namespace {

bool in_micro(const Node& node) {
  return node.phase == Phase::forward || node.phase == Phase::backward;
}
bool in_update(const Node& node) { return node.phase == Phase::update; }
bool in_init(const Node& node) { return node.phase == Phase::init; }
bool in_step(const Node& node) { return node.phase != Phase::init; }

/// Nothing is trained: no parameter needs a master.
Pass frozen_pass() {
  return {.name = "frozen",
          .needs = {},
          .gives = {},
          .breaks = {},
          .equality = Equality::exact,
          .run = [](Graph graph) {
            for (Parameter& parameter : graph.parameters) parameter.trainable = false;
            return graph;
          }};
}

/// The loss without gradients.
Graph evaluation_graph(const Graph& loss, const Settings& settings) {
  return run_passes(
      loss,
      {adapters_pass(settings, AdapterUse::evaluation), frozen_pass(),
       precision_pass(settings.precision), quantize_pass(settings.quantization),
       chunk_loss_pass(settings.loss), mlp_chunks_pass(settings.mlp_chunks, settings.run.seed)},
      nullptr);
}

/// Whether what the pass adds belongs to the update and init, of which a step with micro-batches
/// has one of each.
bool adds_updates_only(const Pass& pass) {
  return pass.name == "optimizer" || pass.name == "loss_scale";
}

class StepCompiler {
 public:
  StepCompiler(const ModelConfig& config, const StepRequest& request, const Settings& settings,
               PipelineTrace* trace)
      : config_(config), request_(request), settings_(settings), trace_(trace) {}

  StepModule run() {
    check(!request_.lengths.empty() || !request_.evaluation_lengths.empty(),
          "a step without a bucket");
    for (const std::int64_t length : request_.lengths) add_bucket(length);
    if (request_.lengths.empty()) add_evaluations();
    return std::move(module_);
  }

 private:
  void add_bucket(std::int64_t length) {
    const bool longest = length == request_.lengths.back();
    const BatchCapacity batch{request_.rows, length};
    StepScript::Bucket bucket{.rows = request_.rows, .length = length};
    const Graph loss = build_loss(config_, batch, request_.rope_positions);
    std::vector<Pass> passes = training_passes(settings_);
    if (request_.accumulate) {
      // One update serves all buckets: the longest's.
      if (!longest) std::erase_if(passes, adds_updates_only);
      passes.push_back(open_accumulation_pass());
    }
    const Graph step = run_passes(loss, passes, longest ? trace_ : nullptr);
    if (request_.accumulate) {
      Graph micro = extract_program(step, fmt::format("micro.{}.first", length), in_micro);
      Graph next = run_passes(micro, {accumulate_pass(settings_.run.seed)}, nullptr);
      next.rename(fmt::format("micro.{}.next", length));
      bucket.first = add(std::move(micro));
      bucket.next = add(std::move(next));
    } else {
      bucket.whole_step = add(extract_program(step, fmt::format("step.{}", length), in_step));
    }
    if (longest) {
      add_evaluations();
      // Shapes of update and init depend on no bucket: one of each serves all.
      if (request_.accumulate)
        module_.script.update = add(extract_program(step, "update", in_update));
      module_.script.init = add(extract_program(step, "init", in_init));
      module_.parameters = step.parameters;
    }
    module_.script.buckets.push_back(bucket);
  }

  void add_evaluations() {
    for (const std::int64_t length : request_.evaluation_lengths) {
      const Graph graph = evaluation_graph(
          build_loss(config_, {request_.rows, length}, request_.rope_positions), settings_);
      if (request_.lengths.empty() && module_.programs.empty()) {
        module_.script.init = add(extract_program(graph, "init", in_init));
        module_.parameters = graph.parameters;
      }
      const std::int32_t program =
          add(extract_program(graph, fmt::format("eval.{}", length), in_step));
      module_.script.evaluations.push_back({request_.rows, length, program});
    }
  }

  std::int32_t add(Graph graph) {
    std::string name = graph.name();
    graph.parameters = {};  // the module's own are the same
    graph.nodes.shrink_to_fit();
    module_.programs.push_back({std::move(name), std::move(graph)});
    return static_cast<std::int32_t>(module_.programs.size()) - 1;
  }

  const ModelConfig& config_;
  const StepRequest& request_;
  const Settings& settings_;
  PipelineTrace* trace_;
  StepModule module_;
};

}  // namespace

StepModule compile_step(const ModelConfig& config, const StepRequest& request,
                        const Settings& settings, PipelineTrace* trace) {
  return StepCompiler(config, request, settings, trace).run();
}

Graph graph_before_recompute(const ModelConfig& config, const StepRequest& request,
                             const Settings& settings) {
  std::vector<Pass> passes = training_passes(settings);
  const auto recompute = std::find_if(passes.begin(), passes.end(),
                                      [](const Pass& pass) { return pass.name == "recompute"; });
  passes.erase(recompute, passes.end());
  const BatchCapacity batch{request.rows, request.lengths.back()};
  return run_passes(build_loss(config, batch, request.rope_positions), passes, nullptr);
}

StepModule compile_generation(const ModelConfig& config, GenerationCapacity capacity,
                              const Settings& settings) {
  StepModule module;
  const auto add = [&](const std::string& name, std::int64_t tokens, bool with_init) {
    capacity.tokens = tokens;
    const Graph graph =
        run_passes(build_generation(config, capacity, capacity.cache_rows),
                   {adapters_pass(settings, AdapterUse::generation), frozen_pass(),
                    precision_pass(settings.precision), quantize_pass(settings.quantization)},
                   nullptr);
    if (with_init) {
      module.script.init = 0;
      module.programs.push_back({"init", extract_program(graph, "init", in_init)});
      module.parameters = graph.parameters;
    }
    module.programs.push_back({name, extract_program(graph, name, in_step)});
    return static_cast<std::int32_t>(module.programs.size()) - 1;
  };
  StepScript::Bucket bucket{.rows = 1, .length = capacity.tokens};
  const std::int64_t prefill_tokens = capacity.tokens;
  bucket.first = add("prefill", prefill_tokens, true);
  bucket.next = add("decode", 1, false);
  module.script.buckets.push_back(bucket);
  return module;
}

}  // namespace snug
