// Adapters as a rewrite: what is trained, what is computed, and what is refused.
#include "passes/lora.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "core/error.h"
#include "core/settings_load.h"
#include "ir/op.h"
#include "ir/verify.h"
#include "model/shapes.h"
#include "passes/freeze.h"
#include "passes/pipeline.h"

namespace snug {
namespace {

using testing::HasSubstr;

ModelConfig small_model(bool tied = false) {
  ModelConfig config = shape_config("smollm2-135m");
  config.num_hidden_layers = 3;
  config.hidden_size = 32;
  config.intermediate_size = 48;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 8;
  config.vocab_size = 40;
  config.tie_word_embeddings = tied;
  return config;
}

Graph loss_graph(bool tied = false) { return build_loss(small_model(tied), {1, 8}, 8); }

LoraOptions adapters(std::vector<std::string> targets) {
  LoraOptions options;
  options.rank = 4;
  options.targets = std::move(targets);
  return options;
}

Graph adapted(const LoraOptions& options, AdapterUse use = AdapterUse::training,
              bool tied = false) {
  return run_passes(loss_graph(tied), {lora_pass(options, 1, use)}, nullptr);
}

std::set<std::string> trained(const Graph& graph) {
  std::set<std::string> names;
  for (const Parameter& parameter : graph.parameters) {
    if (parameter.trainable) names.insert(parameter.name);
  }
  return names;
}

std::string error_of(const LoraOptions& options) {
  try {
    adapted(options);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

Settings training_settings(const std::vector<std::pair<std::string, std::string>>& words) {
  std::vector<Assignment> all;
  for (const auto& [key, value] : words) all.push_back(from_command_line(key, value));
  return make_settings(all);
}

Graph training_graph(const std::vector<std::pair<std::string, std::string>>& words) {
  Settings settings = training_settings(words);
  settings.recompute = {};
  return run_passes(loss_graph(), training_passes(settings), nullptr);
}

TEST(Lora, AddsTheProductIntoTheSamePlace) {
  const Graph graph = adapted(adapters({"q_proj"}));
  const ValueId y = graph.find("layers.1.q_proj");
  ASSERT_TRUE(exists(y));
  EXPECT_EQ(graph.value(graph.root(y)).name, "layers.1.q_proj.base");
  const auto producers = graph.producers();
  const Node& up = graph.nodes[static_cast<std::size_t>(producers[static_cast<std::size_t>(y)])];
  EXPECT_EQ(up.op, Op::linear);
  EXPECT_EQ(graph.value(up.inputs[3]).name, "layers.1.q_proj.base");
  EXPECT_EQ(graph.value(up.inputs[0]).type.shape, (Shape{8, 4}));
  // 2 alpha / r is a scale of its own on the [T, r] product.
  const auto count = [&](Op op) {
    return std::count_if(graph.nodes.begin(), graph.nodes.end(),
                         [&](const Node& node) { return node.op == op; });
  };
  EXPECT_EQ(count(Op::scale), 3);
  EXPECT_EQ(count(Op::linear), 3 * 7 + 2 * 3);
}

TEST(Lora, TrainsAdaptersAlone) {
  EXPECT_EQ(trained(adapted(adapters({"model.layers.1.self_attn.v_proj"}))),
            (std::set<std::string>{"model.layers.1.self_attn.v_proj.lora_A.weight",
                                   "model.layers.1.self_attn.v_proj.lora_B.weight"}));
  EXPECT_EQ(trained(adapted(adapters({"all-linear"}))).size(), 3U * 7 * 2);
  EXPECT_TRUE(trained(adapted(adapters({"all-linear"}), AdapterUse::evaluation)).empty());
}

TEST(Lora, TargetsAreNamesEndsAndExpressions) {
  EXPECT_EQ(trained(adapted(adapters({"mlp.up_proj"}))).size(), 6U);
  EXPECT_EQ(trained(adapted(adapters({".*layers\\.(0|2)\\..*[qk]_proj"}))).size(), 8U);
  EXPECT_THAT(error_of(adapters({"query"})),
              HasSubstr("'query' matches no linear layer. There are self_attn.q_proj, "
                        "self_attn.k_proj"));
  EXPECT_THAT(error_of(adapters({"q_proj("})), HasSubstr("is no regular expression"));
  EXPECT_EQ(trained(adapted(adapters({"lm_head"}), AdapterUse::training, true)),
            (std::set<std::string>{"lm_head.lora_A.weight", "lm_head.lora_B.weight"}));
  LoraOptions head = adapters({"lm_head"});
  head.dora = true;
  EXPECT_THAT(error_of(head), HasSubstr("modules_to_save=lm_head"));
  EXPECT_THAT(error_of(adapters({"embed_tokens"})), HasSubstr("is an embedding"));
  EXPECT_THAT(error_of(adapters({})), HasSubstr("is empty"));
}

TEST(Lora, RanksAndAlphasFollowPatterns) {
  LoraOptions options = adapters({"all-linear"});
  options.alpha = 8;
  options.rank_pattern = {{"q_proj", 2}, {".*_proj", 3}};
  options.alpha_pattern = {{"layers\\.1\\.mlp\\.up_proj", 9}};
  EXPECT_EQ(adapter_scale(options, "model.layers.0.self_attn.q_proj").rank, 2);
  EXPECT_DOUBLE_EQ(adapter_scale(options, "model.layers.0.self_attn.q_proj").scale, 4);
  EXPECT_DOUBLE_EQ(adapter_scale(options, "model.layers.1.mlp.up_proj").scale, 3);
  options.rslora = true;
  EXPECT_DOUBLE_EQ(adapter_scale(options, "model.layers.1.mlp.up_proj").scale, 9 / std::sqrt(3.0));
  options.rank_pattern = {{"v_proj", 17}};
  EXPECT_THAT(error_of(options), HasSubstr("v_proj is [16, 32]; its adapter's rank is at most 16"));
}

TEST(Lora, SavesModulesInFullAndUntiesTheHead) {
  LoraOptions options = adapters({"q_proj"});
  options.modules_to_save = {"lm_head"};
  const Graph graph = adapted(options, AdapterUse::training, true);
  verify_graph(graph);
  const auto head = std::find_if(graph.parameters.begin(), graph.parameters.end(),
                                 [](const Parameter& p) { return p.name == "lm_head.weight"; });
  ASSERT_NE(head, graph.parameters.end());
  EXPECT_EQ(head->owner, Owner::copy);
  EXPECT_TRUE(head->trainable);
  EXPECT_FALSE(graph.parameters.front().trainable);
  for (const Node& node : graph.nodes) {
    if (node.op == Op::head_loss) {
      EXPECT_EQ(graph.value(node.inputs[1]).name, "lm_head.weight");
    }
  }
  options.modules_to_save = {"head"};
  EXPECT_EQ(trained(adapted(options)).count("lm_head.weight"), 1U);
  options.modules_to_save = {"embeddings"};
  EXPECT_THAT(error_of(options), HasSubstr("modules_to_save: 'embeddings' finds no module"));
}

TEST(Lora, NoGradientOfFrozenWeightsNorBelowTheFirstAdapter) {
  const Graph graph = training_graph(
      {{"finetuning_type", "lora"}, {"lora_target_modules", "model.layers.1.mlp.down_proj"}});
  std::set<std::string> gradients;
  for (const Node& node : graph.nodes) {
    if (node.phase != Phase::backward) continue;
    // Layer 0 and layer 1's attention lie before the adapter.
    EXPECT_NE(node.layer, 0);
    EXPECT_NE(node.layer == 1 ? node.op : Op::add, Op::attention_grad);
    for (const ValueId id : node.outputs) {
      if (graph.value(id).role == Role::gradient) gradients.insert(graph.value(id).name);
    }
  }
  EXPECT_EQ(gradients, (std::set<std::string>{"model.layers.1.mlp.down_proj.lora_A.weight.grad",
                                              "model.layers.1.mlp.down_proj.lora_B.weight.grad"}));
  // Nothing of layer 0 but its result is kept for backward.
  for (const Node& node : graph.nodes) {
    if (node.phase != Phase::backward) continue;
    for (const ValueId id : node.inputs) {
      if (exists(id) && graph.value(id).role == Role::activation) {
        EXPECT_FALSE(graph.value(id).name.starts_with("layers.0.")) << graph.value(id).name;
      }
    }
  }
}

TEST(Lora, AdaptersAreFp32BesideABf16Base) {
  const Graph graph = training_graph({{"finetuning_type", "lora"}, {"use_dora", "true"}});
  for (const Parameter& parameter : graph.parameters) {
    const bool adapter = parameter.owner == Owner::adapter;
    const bool magnitude = parameter.name.ends_with("magnitude_vector");
    EXPECT_EQ(parameter.type.dtype, adapter ? DType::f32 : DType::bf16) << parameter.name;
    EXPECT_EQ(parameter.storage.front().type.dtype, magnitude ? DType::f32 : DType::bf16);
    const bool master = parameter.storage.size() > 1 && parameter.storage[1].component == "master";
    EXPECT_EQ(master, adapter && !magnitude) << parameter.name;
  }
}

TEST(Lora, DropoutIsForTrainingAlone) {
  LoraOptions options = adapters({"q_proj"});
  options.dropout = 0.1;
  for (const bool dora : {false, true}) {
    options.dora = dora;
    EXPECT_TRUE(exists(adapted(options).find("input/rows")));
    EXPECT_FALSE(exists(adapted(options, AdapterUse::evaluation).find("input/rows")));
  }
}

TEST(Freeze, ByPatternAndByLayer) {
  FreezeOptions options;
  const auto trains = [&](bool by_layer) {
    return trained(run_passes(loss_graph(), {freeze_pass(options, by_layer)}, nullptr));
  };
  EXPECT_EQ(trains(false).size(), 3U * 9 + 3);
  options.unfrozen = {"layers\\.1\\.mlp", "^lm_head"};
  EXPECT_EQ(trains(false).size(), 4U);
  options.unfrozen = {"(?<!layers\\.1\\.)mlp"};  // Python's syntax, as PEFT's users write it
  EXPECT_EQ(trains(false).size(), 2U * 3);
  options.unfrozen = {"mlp("};
  EXPECT_THROW(trains(false), UserError);
  options = {.unfrozen = {}, .layers = -1, .modules = {"self_attn"}, .extra_modules = {"norm"}};
  EXPECT_EQ(trains(true).size(), 5U);
  options.layers = 2;
  options.modules = {"all"};
  options.extra_modules = {};
  EXPECT_EQ(trains(true).size(), 18U);
  options.modules = {"experts"};
  EXPECT_THROW(trains(true), UserError);
  options.layers = 4;
  EXPECT_THROW(trains(true), UserError);
}

TEST(Freeze, OfAdaptersByPattern) {
  FreezeOptions options;
  const auto trains = [&] {
    return trained(run_passes(loss_graph(),
                              {lora_pass(adapters({"q_proj", "v_proj"}), 1, AdapterUse::training),
                               freeze_pass(options, false)},
                              nullptr));
  };
  EXPECT_EQ(trains().size(), 3U * 2 * 2);
  options.unfrozen = {"layers\\.1"};
  EXPECT_EQ(trains().size(), 2U * 2);
  options.unfrozen = {"layers\\.1.*k_proj"};  // the base's, which adapters freeze
  EXPECT_THROW(trains(), UserError);
}

}  // namespace
}  // namespace snug
