#include "passes/accumulate.h"

#include "core/philox.h"
#include "ir/builder.h"
#include "ir/op.h"

namespace snug {
namespace {

Graph open(Graph graph) {
  for (std::int64_t v = 0; v < graph.value_count(); ++v) {
    Value& value = graph.value(static_cast<ValueId>(v));
    if (value.role == Role::gradient) value.scope = Scope::step;
  }
  return graph;
}

ValueId draw_scalar(Graph& graph) {
  const ValueId known = graph.find("scalar/draw");
  if (exists(known)) return known;
  return Builder(graph).input("scalar/draw", {DType::i64, Shape{}}, Role::scalar, Scope::run);
}

/// Makes `node`'s gradient result `out` add to an input of the program.
void add_to_step(Graph& graph, Node& node, ValueId out, std::int64_t seed) {
  const int accumulator = op_def(node.op).accumulator;
  check(accumulator >= 0, "op '{}' writes gradient %{} but cannot accumulate", op_def(node.op).name,
        graph.value(out).name);
  const std::string name = graph.value(out).name;
  graph.rename_value(out, graph.fresh_name(name + ".sum"));
  Value stored = graph.value(out);
  stored.name = name;
  const ValueId before = graph.add_value(std::move(stored));
  graph.value(out).base = before;
  const auto slot = static_cast<std::size_t>(accumulator);
  node.inputs.resize(std::max(node.inputs.size(), slot + 2), kNoValue);
  node.inputs[slot] = before;
  if (graph.value(out).type.dtype == DType::f32) return;
  node.inputs[slot + 1] = draw_scalar(graph);
  node.attributes.set("seed", seed);
  node.attributes.set("stream", static_cast<std::int64_t>(stream_hash(name)));
}

Graph accumulate(Graph graph, std::int64_t seed) {
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    Node node = graph.nodes[n];  // adding values moves nothing, but keeps the edit in one place
    for (const ValueId out : node.outputs) {
      const Value& value = graph.value(out);
      if (value.role != Role::gradient || value.scope != Scope::step || exists(value.base))
        continue;
      add_to_step(graph, node, out, seed);
    }
    graph.nodes[n] = std::move(node);
  }
  return graph;
}

}  // namespace

Pass open_accumulation_pass() {
  return {.name = "open_accumulation",
          .needs = {facts::kGradientsComplete},
          .gives = {},
          .breaks = {},
          .equality = Equality::exact,
          .run = open};
}

Pass accumulate_pass(std::int64_t seed) {
  return {.name = "accumulate",
          .needs = {facts::kGradientsComplete},
          .gives = {facts::kAccumulationClosed},
          .breaks = {},
          .equality = Equality::reordered,
          .run = [seed](Graph graph) { return accumulate(std::move(graph), seed); }};
}

}  // namespace snug
