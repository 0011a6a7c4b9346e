// Updates of one parameter, for the parity suite to compare with the optimizers of other packages.
// Exit status 1 with the message for a UserError.
//   update_tool IN.safetensors OUT.safetensors FIRST_STEP [key=value ...]
//     IN has `p`, gradients `g/0`, `g/1`, ... and, to go on from, states `p.NAME`. Update
//     FIRST_STEP (from 1) takes g/0. OUT has `p/0`, ... after each update, and the states after the
//     last.

#include <cstdio>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "core/error.h"
#include "core/settings_load.h"
#include "exec/executor.h"
#include "io/model_writer.h"
#include "io/safetensors.h"
#include "ir/builder.h"
#include "passes/extract.h"
#include "passes/optimizer.h"
#include "plan/plan.h"
#include "train/weights.h"

namespace snug {
namespace {

struct Tensor {
  TensorSpec spec;
  std::vector<std::byte> bytes;
};

TensorType type_of(const SafetensorsFile& file, const std::string& name) {
  const TensorView* view = file.find(name);
  if (view == nullptr || !view->dtype) user_error("'{}' is missing or of no known type.", name);
  return {*view->dtype, Shape(view->shape)};
}

/// A graph of `init` and `update` of parameter p.
StepModule compile(const SafetensorsFile& in, const Settings& settings) {
  Graph graph("update");
  Builder builder(graph);
  const TensorType type = type_of(in, "p");
  builder.input("p", type, Role::weight, Scope::run);
  const ValueId gradient = builder.input("p.grad", type_of(in, "g/0"), Role::gradient, Scope::step);
  graph.outputs.push_back(gradient);
  Parameter parameter{.name = "p", .type = type};
  parameter.storage.push_back({"weight", "plain", "p", type});
  graph.parameters.push_back(std::move(parameter));
  graph.facts.emplace(facts::kDifferentiated);
  graph.facts.emplace(facts::kGradientsComplete);
  graph = run_passes(std::move(graph), {optimizer_pass(settings.optimizer, settings.run.seed)},
                     nullptr);
  StepModule module;
  module.script.init = 0;
  module.script.update = 1;
  for (const Phase phase : {Phase::init, Phase::update}) {
    const std::string name(name_of(phase));
    module.programs.push_back({name, extract_program(graph, name, [phase](const Node& node) {
                                 return node.phase == phase;
                               })});
  }
  module.parameters = graph.parameters;
  return module;
}

void run(const std::vector<std::string>& words) {
  if (words.size() < 3) {
    user_error("usage: update_tool IN.safetensors OUT.safetensors FIRST_STEP [key=value ...]");
  }
  std::vector<Assignment> assignments;
  for (std::size_t i = 3; i < words.size(); ++i) {
    const std::size_t equals = words[i].find('=');
    if (equals == std::string::npos) user_error("'{}' is no key=value.", words[i]);
    assignments.push_back(
        from_command_line(words[i].substr(0, equals), words[i].substr(equals + 1)));
  }
  const Settings settings = make_settings(assignments);
  const SafetensorsFile in(words[0]);
  const StepModule module = compile(in, settings);
  const Target target = make_target(settings.device);
  const auto kernels = make_backend(target);
  ThreadPool pool(target.threads);
  const Plan plan = make_plan(module, *kernels, target);
  Executor executor(plan, reserve_arenas(plan, pool), pool);
  const auto bytes = [&](std::string_view name) { return executor.bytes(name); };
  const auto load = [&](const std::string& name, const std::string& from) {
    const TensorView* view = in.find(from);
    if (view == nullptr || view->bytes.size() != bytes(name).size()) {
      user_error("'{}' does not fit '{}'.", from, name);
    }
    std::copy(view->bytes.begin(), view->bytes.end(), bytes(name).begin());
  };
  const auto set = [&]<class T>(const char* name, T value) {
    if (plan.has_location(name)) executor.value<T>(name)[0] = value;
  };
  executor.play(module.script.init);
  load("p", "p");
  const auto states = state_specs(module.parameters);
  for (const TensorSpec& state : states) {
    if (in.find(state.name) != nullptr) load(state.name, state.name);
  }
  std::vector<Tensor> tensors;
  const auto save = [&](const std::string& name, const std::string& from) {
    const TensorType type = plan.location(from).layout.type;
    const auto dims = type.shape.dims();
    tensors.push_back(
        {{name, type.dtype, {dims.begin(), dims.end()}}, {bytes(from).begin(), bytes(from).end()}});
  };
  const std::int64_t first = std::stoll(words[2]);
  for (std::int64_t k = 0; in.find(fmt::format("g/{}", k)) != nullptr; ++k) {
    load("p.grad", fmt::format("g/{}", k));
    set_update_scalars(settings.optimizer, settings.schedule.learning_rate, first + k - 1, set);
    set("scalar/apply", std::int32_t{1});
    set("scalar/draw", first + k - 1);
    executor.play(module.script.update);
    save(fmt::format("p/{}", k), "p");
  }
  for (const TensorSpec& state : states) save(state.name, state.name);
  std::vector<TensorSpec> specs;
  for (const Tensor& tensor : tensors) specs.push_back(tensor.spec);
  write_safetensors(words[1], specs, [&](const TensorSpec& spec, ModelFolderWriter::Sink sink) {
    for (const Tensor& tensor : tensors) {
      if (tensor.spec.name == spec.name) sink(tensor.bytes);
    }
  });
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
