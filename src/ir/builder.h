#pragma once
// Adds values and nodes to a graph with checked types and unique names.

#include <string>
#include <string_view>
#include <vector>

#include "ir/graph.h"
#include "ir/op.h"

namespace snug {

/// Appends to `graph.nodes`, or to `sink` when one is given (a pass that makes a new order).
/// The graph must outlive the builder.
class Builder {
 public:
  explicit Builder(Graph& graph) : Builder(graph, graph.nodes) {}
  Builder(Graph& graph, std::vector<Node>& sink) : graph_(graph), sink_(sink) {}

  Graph& graph() { return graph_; }
  const Graph& graph() const { return graph_; }
  /// Layer, phase and lane of the nodes that follow.
  void set_layer(int layer) { layer_ = layer; }
  void set_phase(Phase phase) { phase_ = phase; }
  void set_lane(Lane lane) { lane_ = lane; }
  /// Role of the outputs that follow (default activation).
  void set_role(Role role) { role_ = role; }
  int layer() const { return layer_; }

  /// An input of the program.
  ValueId input(std::string name, TensorType type, Role role, Scope scope,
                Space space = Space::device);
  /// Emits a node; its outputs are named `name`, or `name.suffix` from the second on, made unique.
  /// Outputs that must alias an input become versions of it, in its role, scope and space.
  /// `output_count` less than the op's maximum leaves out the optional last outputs.
  std::vector<ValueId> emit(Op op, std::vector<ValueId> inputs, Attributes attributes,
                            std::string_view name, int output_count = -1);
  /// emit() for ops of one output.
  ValueId one(Op op, std::vector<ValueId> inputs, Attributes attributes, std::string_view name);

 private:
  Graph& graph_;
  std::vector<Node>& sink_;
  int layer_ = -1;
  Phase phase_ = Phase::forward;
  Lane lane_ = Lane::compute;
  Role role_ = Role::activation;
};

/// `shape` attribute text, e.g. "2,3"; and back.
std::string shape_text(const Shape& shape);
Shape shape_from_text(std::string_view text);

}  // namespace snug
