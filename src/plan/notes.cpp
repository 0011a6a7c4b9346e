#include "plan/notes.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <map>

#include "core/settings_table.h"
#include "core/text.h"
#include "ir/op.h"
#include "passes/optimizer.h"
#include "plan/placement.h"

namespace snug {
namespace {

constexpr std::int64_t kAdamBytes = 8;  // two fp32 moments

const StepScript::Bucket& longest(const Recipe& recipe) {
  return recipe.module->script.buckets.back();
}

double share_of(std::int64_t part, std::int64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

std::string printed(const Recipe& recipe, std::string_view key) {
  return find_setting(key).row->field.print(recipe.settings);
}

/// Bytes of the values that outlive programs, by role.
std::map<Role, std::int64_t> root_bytes(const Plan& plan) {
  std::map<Role, std::int64_t> bytes;
  for (const Root& root : plan.roots) bytes[root.role] += root.bytes;
  return bytes;
}

/// Of the gradients that the updates read.
std::int64_t updated_gradients(const StepModule& module, const StepScript::Bucket& bucket) {
  const std::int32_t index = bucket.whole_step >= 0 ? bucket.whole_step : module.script.update;
  if (index < 0) return 0;
  const Graph& graph = module.programs[static_cast<std::size_t>(index)].graph;
  std::int64_t bytes = 0;
  for (const Node& node : graph.nodes) {
    if (op_def(node.op).update_states < 0) continue;
    bytes += graph.value(node.inputs[kUpdateGradient]).type.bytes();
  }
  return bytes;
}

std::int64_t of_role(const std::vector<RoleBytes>& rows, Role role) {
  std::int64_t bytes = 0;
  for (const RoleBytes& row : rows) bytes += row.role == role ? row.bytes : 0;
  return bytes;
}

/// rows x heads x length² in the type of the queries; 0 without attention.
void add_scores(const Recipe& recipe, const ModelConfig& config, PlanFacts& facts) {
  const StepScript::Bucket& bucket = longest(recipe);
  const Graph& graph = recipe.plan.graph(micro_program(recipe));
  const auto node = std::find_if(graph.nodes.begin(), graph.nodes.end(),
                                 [](const Node& n) { return n.op == Op::attention; });
  if (node == graph.nodes.end()) return;
  const TensorType scores{graph.value(node->inputs[0]).type.dtype,
                          {bucket.rows, config.num_attention_heads, bucket.length, bucket.length}};
  facts.score_bytes = scores.bytes();
  facts.scores_length = bucket.length;
}

void add_rule_of_thumb(const Plan& plan, PlanFacts& facts) {
  auto bytes = root_bytes(plan);
  facts.master_bytes = bytes[Role::master];
  facts.state_bytes = bytes[Role::optimizer_state];
  const std::int64_t n = facts.parameters.all;
  const std::int64_t held = bytes[Role::weight] + bytes[Role::master] + facts.gradient_bytes;
  const bool applies =
      facts.parameters.trainable == n && facts.state_bytes == kAdamBytes * n && held == 8 * n;
  if (applies) facts.rule_of_thumb = 16 * n;
}

/// What to try next where a use takes most.
struct Remedy {
  Use use;
  std::string_view change;  ///< settings, as they are typed
  bool (*helps)(const Recipe& recipe);
};

constexpr std::array<Remedy, 9> kRemedies = {{
    {Use::weights, "bf16=true",
     [](const Recipe& r) {
       return printed(r, "bf16") == "false" && printed(r, "fp16") == "false";
     }},
    {Use::weights, "finetuning_type=lora",
     [](const Recipe& r) { return printed(r, "finetuning_type") == "full"; }},
    {Use::weights, "load_in_4bit=true",
     [](const Recipe& r) {
       return printed(r, "finetuning_type") == "lora" && printed(r, "load_in_4bit") == "false";
     }},
    {Use::optimizer, "optim=adamw_8bit",
     [](const Recipe& r) { return printed(r, "optim") == "adamw_torch"; }},
    {Use::optimizer, "finetuning_type=lora",
     [](const Recipe& r) { return printed(r, "finetuning_type") == "full"; }},
    {Use::gradients, "update_in_backward=true max_grad_norm=0",
     [](const Recipe& r) {
       return r.accumulation == 1 && printed(r, "update_in_backward") == "false";
     }},
    {Use::activations, "activation_checkpointing=true",
     [](const Recipe& r) { return printed(r, "activation_checkpointing") == "false"; }},
    {Use::activations, "a smaller per_device_train_batch_size, the rest by accumulation",
     [](const Recipe& r) { return r.micro_rows > 1; }},
    {Use::activations, "mlp_chunks=8",
     [](const Recipe& r) { return printed(r, "mlp_chunks") == "1"; }},
}};

/// The use that takes most, and what is left to try against it.
std::string largest_note(const Recipe& recipe, const MemorySummary& summary) {
  const auto most =
      std::max_element(summary.uses.begin(), summary.uses.end(),
                       [](const UseBytes& a, const UseBytes& b) { return a.bytes < b.bytes; });
  std::string text = fmt::format("most of it: {}, {:.0f} %", name_of(most->use),
                                 100 * share_of(most->bytes, summary.needed_bytes));
  for (const Remedy& remedy : kRemedies) {
    if (remedy.use != most->use || !remedy.helps(recipe)) continue;
    return text + fmt::format("; to need less, try {}", remedy.change);
  }
  return text;
}

std::string state_note(const PlanFacts& facts) {
  const std::int64_t adam = kAdamBytes * facts.parameters.trainable;
  const std::string beside =
      fmt::format("where fp32 Adam has 8 bytes a parameter, {}", binary_bytes(adam));
  if (facts.state_bytes == 0) return "optimizer: no state, " + beside;
  return fmt::format("optimizer: {} of state, {}: {:.2f} times less",
                     binary_bytes(facts.state_bytes), beside, share_of(adam, facts.state_bytes));
}

std::string gradients_note(const PlanFacts& facts, const MemorySummary& summary) {
  const std::string all = binary_bytes(facts.gradient_bytes);
  if (facts.gradients_add_up) {
    return fmt::format(
        "gradients: all {} live through the step, as they add up over its micro-batches; a smaller "
        "micro-batch spares activations only",
        all);
  }
  if (facts.gradients_most < facts.gradient_bytes * 9 / 10) {
    return fmt::format(
        "gradients: of {} at most {} exist at once, as each weight is updated when its gradient is "
        "complete",
        all, binary_bytes(facts.gradients_most));
  }
  const std::int64_t there = summary.bytes(Use::gradients);
  if (there < facts.gradients_most) {
    return fmt::format(
        "gradients: {} of {} exist at the peak; the others come when activations have gone",
        binary_bytes(there), all);
  }
  return fmt::format("gradients: all {} exist at the peak, which comes at the end of backward",
                     all);
}

}  // namespace

std::int32_t micro_program(const Recipe& recipe) {
  const StepScript::Bucket& bucket = longest(recipe);
  return bucket.whole_step >= 0 ? bucket.whole_step : bucket.first;
}

std::int64_t micro_tokens(const Recipe& recipe) {
  return longest(recipe).rows * longest(recipe).length;
}

std::vector<SavedLayer> saved_for_backward(const Plan& plan, std::int32_t program) {
  const Graph& graph = plan.graph(program);
  std::int32_t last = -1;  // of forward
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    if (graph.nodes[i].phase == Phase::forward) last = static_cast<std::int32_t>(i);
  }
  std::map<int, SavedLayer> layers;
  for (const Storage& storage : plan.program(program).storages) {
    const Value& value = graph.value(storage.root);
    if (storage.space != Space::device || value.role != Role::activation) continue;
    if (storage.begin > last || storage.end <= last) continue;
    SavedLayer& layer = layers[value.layer];
    layer.layer = value.layer;
    const std::int64_t bytes = align_up(storage.bytes, plan.target.alignment(Space::device));
    layer.bytes += bytes;
    layer.values.push_back({value.name, value.role, value.type.dtype, value.scope, value.layer,
                            storage.offset, bytes});
  }
  std::vector<SavedLayer> result;
  for (auto& [index, layer] : layers) {
    std::sort(layer.values.begin(), layer.values.end(),
              [](const AliveValue& a, const AliveValue& b) {
                return a.bytes != b.bytes ? a.bytes > b.bytes : a.offset < b.offset;
              });
    result.push_back(std::move(layer));
  }
  return result;
}

const SavedLayer* PlanFacts::largest_layer() const {
  const SavedLayer* most = nullptr;
  for (const SavedLayer& layer : saved) {
    if (layer.layer >= 0 && (most == nullptr || layer.bytes > most->bytes)) most = &layer;
  }
  return most;
}

PlanFacts plan_facts(const ModelConfig& config, const Recipe& recipe, const MemoryReport& report) {
  PlanFacts facts;
  facts.parameters = count_parameters(recipe.module->parameters);
  facts.gradient_bytes = updated_gradients(*recipe.module, longest(recipe));
  add_rule_of_thumb(recipe.plan, facts);
  facts.gradients_add_up = recipe.accumulation > 1;
  for (const PhaseReport& phase : report.by_phase(Space::device)) {
    facts.gradients_most = std::max(facts.gradients_most, of_role(phase.by_role, Role::gradient));
  }
  facts.tokens = micro_tokens(recipe);
  facts.layer_formula = 2 * facts.tokens * config.hidden_size * 10;
  facts.saved = saved_for_backward(recipe.plan, micro_program(recipe));
  facts.layers = static_cast<int>(config.num_hidden_layers);
  add_scores(recipe, config, facts);
  return facts;
}

ParameterCount count_parameters(const ParameterTable& parameters) {
  ParameterCount count;
  for (const Parameter& parameter : parameters) {
    const std::int64_t elements = parameter.type.shape.elements();
    count.all += elements;
    count.trainable += parameter.trainable ? elements : 0;
  }
  return count;
}

std::string describe_parameters(const ParameterCount& count) {
  const std::string all = group_digits(count.all);
  if (count.trainable == count.all) return fmt::format("{} parameters, all trained", all);
  return fmt::format("{} parameters, {} trained ({:.2f} %)", all, group_digits(count.trainable),
                     100 * share_of(count.trainable, count.all));
}

std::vector<std::string> short_notes(const PlanFacts& facts, const Recipe& recipe,
                                     const MemorySummary& summary) {
  std::vector<std::string> notes = {largest_note(recipe, summary)};
  if (facts.rule_of_thumb) {
    notes.push_back(
        fmt::format("rule of thumb: 16 N = {} for weights, gradients and Adam; here {} at the peak",
                    binary_bytes(*facts.rule_of_thumb),
                    binary_bytes(summary.bytes(Use::weights) + summary.bytes(Use::optimizer) +
                                 summary.bytes(Use::gradients))));
  }
  const SavedLayer* layer = facts.largest_layer();
  notes.push_back(fmt::format("one layer's activations: 2·B·S·H·10 = {} by the formula, {} here",
                              binary_bytes(facts.layer_formula),
                              binary_bytes(layer == nullptr ? 0 : layer->bytes)));
  const std::string_view optimizer = optimizer_note(recipe.settings.optimizer);
  if (!optimizer.empty()) notes.push_back(fmt::format("optimizer: {}", optimizer));
  return notes;
}

std::vector<std::string> detailed_notes(const PlanFacts& facts, const MemorySummary& summary) {
  std::vector<std::string> notes;
  if (facts.master_bytes > 0) {
    notes.push_back(fmt::format(
        "weights: half precision halves what is computed with and kept for backward; the weights "
        "themselves have an fp32 master beside them, {}",
        binary_bytes(facts.master_bytes)));
  }
  if (facts.state_bytes < kAdamBytes * facts.parameters.trainable * 9 / 10) {
    notes.push_back(state_note(facts));
  }
  if (facts.gradient_bytes > 0) notes.push_back(gradients_note(facts, summary));
  std::int64_t saved = 0;
  for (const SavedLayer& layer : facts.saved) saved += layer.bytes;
  notes.push_back(fmt::format(
      "activations: forward leaves {} for backward, {} a token of {}; they grow linearly with rows "
      "and length: half the length, half the bytes",
      binary_bytes(saved), binary_bytes(saved / std::max<std::int64_t>(1, facts.tokens)),
      group_digits(facts.tokens)));
  if (facts.score_bytes > 0) {
    notes.push_back(fmt::format(
        "attention scores, never held: {} a layer, {} in all for rows of {}; they would grow with "
        "the square of the length",
        binary_bytes(facts.score_bytes), binary_bytes(facts.score_bytes * facts.layers),
        group_digits(facts.scores_length)));
  }
  return notes;
}

std::string saved_text(const PlanFacts& facts) {
  const SavedLayer* layer = facts.largest_layer();
  if (layer == nullptr) return "";
  std::string text =
      fmt::format("layer {} keeps for backward: {}\n", layer->layer, binary_bytes(layer->bytes));
  for (const AliveValue& value : layer->values) {
    text += fmt::format("  {:>12}  {} {}\n", binary_bytes(value.bytes), name_of(value.dtype),
                        value.name);
  }
  return text;
}

}  // namespace snug
