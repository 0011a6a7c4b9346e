#pragma once
// Random loss graphs: layers of linear maps, norms, gates and attention over one width, joined at
// random, ending in a head that may be tied to the embedding.

#include <fmt/format.h>

#include <map>
#include <random>
#include <string>
#include <vector>

#include "ir/builder.h"

namespace snug::test {

/// Numbers by the name of the value they are set in.
using Values = std::map<std::string, std::vector<double>>;

class RandomGraph {
 public:
  static constexpr std::int64_t kTokens = 33, kWidth = 8, kHeads = 2, kVocabulary = 71;

  RandomGraph(unsigned seed, DType type) : random_(seed), type_(type), builder_(graph_) {}

  Graph draw() {
    const TensorType row{DType::i32, {kTokens}};
    const ValueId ids = builder_.input("input/ids", row, Role::input, Scope::call);
    const ValueId labels = builder_.input("input/labels", row, Role::input, Scope::call);
    start_ = builder_.input("input/doc_start", row, Role::input, Scope::call);
    const ValueId table = parameter("embed", {kVocabulary, kWidth});
    values_ = {builder_.one(Op::embedding, {table, ids}, {}, "x")};
    unread_ = values_;
    const int layers = pick(1, 3);
    for (int layer = 0; layer < layers; ++layer) {
      builder_.set_layer(layer);
      for (int n = pick(2, 6); n > 0; --n) add_node();
    }
    builder_.set_layer(-1);
    const bool tied = pick(0, 1) == 0;
    const ValueId head = tied ? table : parameter("head", {kVocabulary, kWidth});
    graph_.parameters.front().uses = tied ? 2 : 1;
    const ValueId last = norm(sum_of_unread());
    builder_.set_role(Role::metric);
    graph_.outputs = {builder_.one(Op::head_loss, {last, head, labels}, {}, "metric/loss")};
    return std::move(graph_);
  }

  /// Inputs, weights and the scalars that passes may ask for.
  static Values values(const Graph& graph, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal(0.0, 0.6);
    Values values{{"scalar/loss_weight", {0.125}}, {"scalar/draw", {3}},
                  {"scalar/lr", {0.01}},           {"scalar/correction1", {0.1}},
                  {"scalar/correction2", {0.001}}, {"scalar/apply", {1}}};
    for (std::int64_t t = 0; t < kTokens; ++t) {
      values["input/doc_start"].push_back(t < 13 ? 0 : 13);
      values["input/ids"].push_back(static_cast<double>(random() % kVocabulary));
      values["input/labels"].push_back(t % 4 == 3 ? -100.0
                                                  : static_cast<double>(random() % kVocabulary));
    }
    for (const Parameter& p : graph.parameters) {
      for (std::int64_t i = 0; i < p.type.shape.elements(); ++i) {
        values[p.name].push_back(normal(random));
      }
    }
    return values;
  }

 private:
  int pick(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }

  ValueId any() {
    const ValueId id =
        values_[static_cast<std::size_t>(pick(0, static_cast<int>(values_.size()) - 1))];
    std::erase(unread_, id);
    return id;
  }

  std::string fresh(const char* what) { return fmt::format("{}{}", what, number_++); }

  ValueId parameter(const std::string& name, const Shape& shape) {
    const TensorType type{type_, shape};
    graph_.parameters.push_back({.name = name,
                                 .type = type,
                                 .trainable = pick(0, 4) > 0,
                                 .decay = shape.rank() > 1,
                                 .layer = builder_.layer(),
                                 .storage = {{"weight", "plain", name, type}}});
    return builder_.input(name, type, Role::weight, Scope::run);
  }

  ValueId norm(ValueId x) {
    const std::string name = fresh("norm");
    return builder_.one(Op::rms_norm, {x, parameter(name + ".weight", {kWidth})}, {{"eps", 1e-3}},
                        name);
  }

  ValueId linear(ValueId x) {
    const std::string name = fresh("linear");
    const ValueId weight = parameter(name + ".weight", {kWidth, kWidth});
    const ValueId bias = pick(0, 1) == 0 ? kNoValue : parameter(name + ".bias", {kWidth});
    return builder_.one(Op::linear, {x, weight, bias}, {}, name);
  }

  ValueId attention(ValueId q, ValueId k, ValueId v) {
    const std::string name = fresh("attention");
    const auto heads = [&](ValueId x) {
      return builder_.one(Op::reshape, {x},
                          {{"shape", shape_text({kTokens, kHeads, kWidth / kHeads})}},
                          name + ".heads");
    };
    const ValueId out =
        builder_.emit(Op::attention, {heads(q), heads(k), heads(v), start_},
                      {{"scale", 0.5}, {"window", std::int64_t{pick(0, 3)}}}, name)[0];
    return builder_.one(Op::reshape, {out}, {{"shape", shape_text({kTokens, kWidth})}},
                        name + ".flat");
  }

  void add_node() {
    ValueId made = kNoValue;
    switch (pick(0, 7)) {
      case 0:
      case 1:
        made = linear(any());
        break;
      case 2:
        made = norm(any());
        break;
      case 3:
        made = builder_.one(Op::silu_mul, {norm(any()), any()}, {}, fresh("act"));
        break;
      case 4:
        made = attention(norm(any()), norm(any()), any());
        break;
      case 5:
        made = builder_.one(Op::add, {any(), any()}, {}, fresh("sum"));
        break;
      case 6:
        made = builder_.one(Op::mul, {norm(any()), any()}, {}, fresh("product"));
        break;
      default:
        made = builder_.one(Op::scale, {any()}, {{"factor", 0.75}}, fresh("scaled"));
    }
    values_.push_back(made);
    unread_.push_back(made);
  }

  ValueId sum_of_unread() {
    ValueId sum = unread_.front();
    for (std::size_t i = 1; i < unread_.size(); ++i) {
      sum = builder_.one(Op::add, {sum, unread_[i]}, {}, fresh("joined"));
    }
    return sum;
  }

  std::mt19937 random_;
  DType type_;
  Graph graph_;
  Builder builder_;
  ValueId start_ = kNoValue;
  std::vector<ValueId> values_;  ///< [kTokens, kWidth] each
  std::vector<ValueId> unread_;  ///< those that no node reads
  int number_ = 0;
};

}  // namespace snug::test
