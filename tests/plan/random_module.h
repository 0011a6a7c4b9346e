#pragma once
// Random programs of f32 vectors that share run- and step-scoped values and copy between spaces.

#include <fmt/format.h>

#include <array>
#include <random>
#include <string>
#include <vector>

#include "ir/builder.h"
#include "ir/program.h"

namespace snug {

/// Draws one program. Every value has kElements elements, so that any two can be added.
class RandomProgram {
 public:
  static constexpr std::int64_t kElements = 48;

  RandomProgram(std::mt19937& random, std::string name)
      : random_(random), program_{name, Graph(name)} {}

  /// `sums`: step-scoped values by name; `first` writes them, others add to them.
  Program draw(int nodes, const std::vector<std::string>& sums, bool first, bool lanes) {
    Builder builder(program_.graph);
    values_.push_back(input(builder, "input/x", Scope::call));
    values_.push_back(input(builder, "shared.weight", Scope::run));
    if (!first) {
      for (const std::string& sum : sums) states_.push_back(input(builder, sum, Scope::step));
    }
    for (int i = 0; i < nodes; ++i) add_node(builder, i, lanes);
    finish_copies(builder);
    write_sums(builder, sums, first);
    program_.graph.outputs.push_back(builder.one(Op::scale, {any()}, {{"factor", 0.25}}, "out/y"));
    return std::move(program_);
  }

 private:
  struct Copy {
    ValueId value;
    ValueId token;
    Space to;
  };

  int pick(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }
  ValueId any() {
    return values_[static_cast<std::size_t>(pick(0, static_cast<int>(values_.size()) - 1))];
  }

  static ValueId input(Builder& builder, const std::string& name, Scope scope) {
    return builder.input(name, {DType::f32, {kElements}}, Role::activation, scope);
  }

  void add_node(Builder& builder, int i, bool lanes) {
    const std::string name = fmt::format("v{}", i);
    const int kind = pick(0, lanes ? 9 : 5);
    if (kind <= 2) {
      values_.push_back(builder.one(Op::add, {any(), any()}, {}, name));
    } else if (kind <= 4) {
      values_.push_back(builder.one(Op::scale, {any()}, {{"factor", 0.5}}, name));
    } else if (kind == 5) {
      values_.push_back(builder.one(Op::copy, {any()}, {}, name));
    } else if (kind == 6) {
      start_copy(builder, any(), Space::host, name);
    } else if (kind == 7 && !on_host_.empty()) {
      start_copy(builder,
                 on_host_[static_cast<std::size_t>(pick(0, static_cast<int>(on_host_.size()) - 1))],
                 Space::device, name);
    } else if (!copies_.empty()) {
      wait_for_copy(builder, name);
    }
    // Old values drop out, so that memory is re-used.
    if (values_.size() > 7) values_.erase(values_.begin() + pick(0, 4));
  }

  void start_copy(Builder& builder, ValueId from, Space to, const std::string& name) {
    builder.set_lane(to == Space::host ? Lane::copy_out : Lane::copy_in);
    const auto made =
        builder.emit(Op::copy_start, {from}, {{"space", std::string(name_of(to))}}, name);
    builder.set_lane(Lane::compute);
    copies_.push_back({made[0], made[1], to});
  }

  void wait_for_copy(Builder& builder, const std::string& name) {
    const auto which = static_cast<std::ptrdiff_t>(pick(0, static_cast<int>(copies_.size()) - 1));
    const Copy copy = copies_[static_cast<std::size_t>(which)];
    copies_.erase(copies_.begin() + which);
    const ValueId ready = builder.one(Op::copy_wait, {copy.value, copy.token}, {}, name);
    (copy.to == Space::host ? on_host_ : values_).push_back(ready);
  }

  void finish_copies(Builder& builder) {
    for (int i = 0; !copies_.empty(); ++i) wait_for_copy(builder, fmt::format("late{}", i));
  }

  void write_sums(Builder& builder, const std::vector<std::string>& sums, bool first) {
    for (std::size_t s = 0; s < sums.size(); ++s) {
      Graph& graph = program_.graph;
      const ValueId total = builder.one(Op::add, {first ? any() : states_[s], any()}, {},
                                        first ? sums[s] : fmt::format("{}.next", sums[s]));
      Value& value = graph.value(total);
      value.scope = Scope::step;
      value.role = Role::gradient;
      if (!first) value.base = states_[s];
      graph.outputs.push_back(total);
    }
  }

  std::mt19937& random_;
  Program program_;
  std::vector<ValueId> values_;   ///< on the device, readable
  std::vector<ValueId> on_host_;  ///< on the host, readable
  std::vector<ValueId> states_;
  std::vector<Copy> copies_;
};

/// `evaluate`, `micro.first`, `micro.next` and `update`, with the script of a step.
inline StepModule random_module(unsigned seed, int nodes, bool lanes) {
  std::mt19937 random(seed);
  const std::vector<std::string> sums = {"a.grad", "b.grad"};
  StepModule module;
  module.programs.push_back(RandomProgram(random, "evaluate").draw(nodes, {}, true, lanes));
  module.programs.push_back(RandomProgram(random, "micro.first").draw(nodes, sums, true, lanes));
  module.programs.push_back(RandomProgram(random, "micro.next").draw(nodes, sums, false, lanes));
  module.programs.push_back(RandomProgram(random, "update").draw(nodes / 4, sums, false, lanes));
  StepScript::Bucket bucket;
  module.script.evaluations.push_back({0, 0, 0});
  bucket.first = 1;
  bucket.next = 2;
  module.script.buckets.push_back(bucket);
  module.script.update = 3;
  return module;
}

}  // namespace snug
