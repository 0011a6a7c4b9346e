#include "model/decoder.h"

#include <cmath>
#include <functional>

#include "core/error.h"
#include "ir/builder.h"

namespace snug {
namespace {

/// Adds parameters and their values. Matrices decay; norms' weights and biases do not.
class Parameters {
 public:
  explicit Parameters(Builder& builder) : builder_(builder) {}

  ValueId matrix(const std::string& name, std::int64_t out, std::int64_t in) {
    return add(name, Shape{out, in}, true, Initial::normal);
  }
  ValueId bias(const std::string& name, std::int64_t size) {
    return add(name, Shape{size}, false, Initial::zeros);
  }
  ValueId norm(const std::string& name, std::int64_t size) {
    return add(name, Shape{size}, false, Initial::ones);
  }

 private:
  ValueId add(const std::string& name, const Shape& shape, bool decay, Initial initial) {
    const TensorType type{DType::f32, shape};
    Parameter parameter{
        .name = name, .type = type, .decay = decay, .initial = initial, .layer = builder_.layer()};
    parameter.storage.push_back({"weight", "plain", name, type});
    builder_.graph().parameters.push_back(std::move(parameter));
    return builder_.input(name, type, Role::weight, Scope::run);
  }
  Builder& builder_;
};

/// One layer's query, key and value, [T, heads, d] each, rotated; gives the attention's result.
using Attend = std::function<ValueId(int layer, ValueId q, ValueId k, ValueId v)>;

class Decoder {
 public:
  Decoder(Graph& graph, const ModelConfig& config, std::int64_t tokens, std::int64_t rope_positions)
      : config_(config), tokens_(tokens), builder_(graph), parameters_(builder_) {
    const TensorType row{DType::i32, Shape{tokens}};
    ids_ = builder_.input("input/ids", row, Role::input, Scope::call);
    positions_ = builder_.input("input/positions", row, Role::input, Scope::call);
    make_rope_tables(rope_positions);
  }

  Builder& builder() { return builder_; }
  ValueId head() const { return head_; }

  /// Final hidden states [T, H], normed.
  ValueId run(const Attend& attend) {
    const ValueId table =
        parameters_.matrix("model.embed_tokens.weight", config_.vocab_size, config_.hidden_size);
    ValueId x = builder_.one(Op::embedding, {table, ids_}, {}, "embedding");
    for (int layer = 0; layer < config_.num_hidden_layers; ++layer) {
      builder_.set_layer(layer);
      x = block(layer, x, attend);
    }
    builder_.set_layer(-1);
    x = norm("model.norm.weight", x, "final_norm");
    if (config_.tie_word_embeddings) {
      Parameter& tied = builder_.graph().parameters.front();
      tied.uses = 2;
      tied.tied_names.emplace_back("lm_head.weight");
      head_ = table;
    } else {
      head_ = parameters_.matrix("lm_head.weight", config_.vocab_size, config_.hidden_size);
    }
    return x;
  }

 private:
  /// Run-scoped cos and sin f32[positions, d/2], made once before the first step.
  void make_rope_tables(std::int64_t positions) {
    const RopeConfig& rope = config_.rope;
    builder_.set_phase(Phase::init);
    builder_.set_role(Role::constant);
    const auto tables =
        builder_.emit(Op::rope_table, {},
                      {{"positions", positions},
                       {"half", config_.head_dim / 2},
                       {"kind", std::string(kind_name(rope.kind))},
                       {"theta", rope.theta},
                       {"factor", rope.factor},
                       {"low_freq_factor", rope.low_freq_factor},
                       {"high_freq_factor", rope.high_freq_factor},
                       {"original_positions", rope.original_max_position_embeddings}},
                      "rope/cos");
    builder_.graph().rename_value(tables[1], "rope/sin");
    for (const ValueId id : tables) builder_.graph().value(id).scope = Scope::run;
    cos_ = tables[0];
    sin_ = tables[1];
    builder_.set_phase(Phase::forward);
    builder_.set_role(Role::activation);
  }

  static std::string_view kind_name(RopeConfig::Kind kind) {
    switch (kind) {
      case RopeConfig::Kind::plain:
        return "plain";
      case RopeConfig::Kind::linear:
        return "linear";
      case RopeConfig::Kind::llama3:
        return "llama3";
    }
    internal_error("rope kind {} has no name", static_cast<int>(kind));
  }

  ValueId block(int layer, ValueId x, const Attend& attend) {
    const std::string weights = fmt::format("model.layers.{}.", layer);
    const std::string name = fmt::format("layers.{}.", layer);
    const ValueId normed = norm(weights + "input_layernorm.weight", x, name + "attn_norm");
    const ValueId attended = attention(layer, normed, attend, weights + "self_attn.", name);
    const ValueId middle = builder_.one(Op::add, {x, attended}, {}, name + "middle");
    const ValueId second =
        norm(weights + "post_attention_layernorm.weight", middle, name + "mlp_norm");
    const ValueId out = mlp(second, weights + "mlp.", name);
    return builder_.one(Op::add, {middle, out}, {}, name + "out");
  }

  ValueId attention(int layer, ValueId x, const Attend& attend, const std::string& weights,
                    const std::string& name) {
    const std::int64_t d = config_.head_dim;
    const std::int64_t h = config_.num_attention_heads;
    const std::int64_t g = config_.num_key_value_heads;
    const bool bias = config_.attention_bias;
    ValueId q = heads(linear(weights + "q_proj", x, h * d, bias, name + "q_proj"), h, name + "q");
    ValueId k = heads(linear(weights + "k_proj", x, g * d, bias, name + "k_proj"), g, name + "k");
    const ValueId v =
        heads(linear(weights + "v_proj", x, g * d, bias, name + "v_proj"), g, name + "v");
    if (config_.qk_norm) {
      q = norm(weights + "q_norm.weight", q, name + "q_norm");
      k = norm(weights + "k_norm.weight", k, name + "k_norm");
    }
    q = builder_.one(Op::rope, {q, cos_, sin_, positions_}, {}, name + "q_rope");
    k = builder_.one(Op::rope, {k, cos_, sin_, positions_}, {}, name + "k_rope");
    const ValueId attended = attend(layer, q, k, v);
    const ValueId flat = builder_.one(
        Op::reshape, {attended}, {{"shape", shape_text(Shape{tokens_, h * d})}}, name + "attended");
    return linear(weights + "o_proj", flat, config_.hidden_size, config_.attention_output_bias,
                  name + "o_proj");
  }

  ValueId mlp(ValueId x, const std::string& weights, const std::string& name) {
    const std::int64_t inner = config_.intermediate_size;
    const bool bias = config_.mlp_bias;
    const ValueId gate = linear(weights + "gate_proj", x, inner, bias, name + "gate");
    const ValueId up = linear(weights + "up_proj", x, inner, bias, name + "up");
    const ValueId act = builder_.one(Op::silu_mul, {gate, up}, {}, name + "act");
    return linear(weights + "down_proj", act, config_.hidden_size, bias, name + "down");
  }

  ValueId linear(const std::string& weight, ValueId x, std::int64_t out, bool bias,
                 const std::string& name) {
    const std::int64_t in = builder_.graph().value(x).type.shape[-1];
    const ValueId w = parameters_.matrix(weight + ".weight", out, in);
    const ValueId b = bias ? parameters_.bias(weight + ".bias", out) : kNoValue;
    return builder_.one(Op::linear, {x, w, b}, {}, name);
  }

  ValueId norm(const std::string& weight, ValueId x, const std::string& name) {
    const ValueId w = parameters_.norm(weight, builder_.graph().value(x).type.shape[-1]);
    return builder_.one(Op::rms_norm, {x, w}, {{"eps", config_.rms_norm_eps}}, name);
  }

  ValueId heads(ValueId x, std::int64_t count, const std::string& name) {
    return builder_.one(Op::reshape, {x},
                        {{"shape", shape_text(Shape{tokens_, count, config_.head_dim})}}, name);
  }

  const ModelConfig& config_;
  std::int64_t tokens_;
  Builder builder_;
  Parameters parameters_;
  ValueId ids_ = kNoValue, positions_ = kNoValue, cos_ = kNoValue, sin_ = kNoValue;
  ValueId head_ = kNoValue;
};

Attributes attention_attributes(const ModelConfig& config, int layer) {
  const auto window = config.sliding_window.empty()
                          ? std::int64_t{0}
                          : config.sliding_window[static_cast<std::size_t>(layer)];
  return {{"scale", 1.0 / std::sqrt(static_cast<double>(config.head_dim))}, {"window", window}};
}

}  // namespace

Graph build_loss(const ModelConfig& config, BatchCapacity batch, std::int64_t rope_positions) {
  Graph graph("loss");
  Decoder decoder(graph, config, batch.tokens(), rope_positions);
  Builder& builder = decoder.builder();
  const TensorType row{DType::i32, Shape{batch.tokens()}};
  const ValueId labels = builder.input("input/labels", row, Role::input, Scope::call);
  const ValueId doc_start = builder.input("input/doc_start", row, Role::input, Scope::call);
  const ValueId x = decoder.run([&](int layer, ValueId q, ValueId k, ValueId v) {
    Attributes attributes = attention_attributes(config, layer);
    attributes.set("length", batch.length);
    return builder
        .emit(Op::attention, {q, k, v, doc_start}, attributes,
              fmt::format("layers.{}.attention", layer))
        .front();
  });
  builder.set_role(Role::metric);
  const ValueId loss = builder.one(Op::head_loss, {x, decoder.head(), labels}, {}, "metric/loss");
  graph.outputs = {loss};
  return graph;
}

Graph build_generation(const ModelConfig& config, GenerationCapacity capacity,
                       std::int64_t rope_positions) {
  Graph graph("generation");
  Decoder decoder(graph, config, capacity.tokens, rope_positions);
  Builder& builder = decoder.builder();
  const ValueId position =
      builder.input("scalar/position", {DType::i32, Shape{}}, Role::scalar, Scope::run);
  const ValueId rows = builder.input("input/logit_rows", {DType::i32, Shape{capacity.logit_rows}},
                                     Role::input, Scope::call);
  const Shape cache{capacity.cache_rows, config.num_key_value_heads, config.head_dim};
  const auto write = [&](int layer, const char* what, ValueId x) {
    const std::string name = fmt::format("cache/{}/{}", layer, what);
    const ValueId old = builder.input(name, {DType::f32, cache}, Role::kv_cache, Scope::session);
    const ValueId filled = builder.one(Op::cache_write, {old, x, position}, {}, name + ".filled");
    graph.outputs.push_back(filled);
    return filled;
  };
  const ValueId x = decoder.run([&](int layer, ValueId q, ValueId k, ValueId v) {
    const ValueId keys = write(layer, "key", k);
    const ValueId values = write(layer, "value", v);
    return builder.one(Op::attention_cached, {q, keys, values, position},
                       attention_attributes(config, layer),
                       fmt::format("layers.{}.attention", layer));
  });
  const ValueId last = builder.one(Op::embedding, {x, rows}, {}, "logit_states");
  builder.set_role(Role::metric);
  const ValueId logits = builder.one(Op::linear, {last, decoder.head(), kNoValue},
                                     {{"dtype", "f32"}}, "metric/logits");
  graph.outputs.push_back(logits);
  return graph;
}

}  // namespace snug
