#include "passes/quantize.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "io/temporary_folder.h"
#include "ir/builder.h"
#include "ir/text.h"
#include "ir/verify.h"

namespace snug {
namespace {

constexpr QuantizationOptions kNf4{.load_in_4bit = true, .skip = {}};

/// y = b + W2 (W1 x), both weights frozen, in layer 0.
Graph two_products() {
  Graph graph = parse_graph(R"(input %x bf16[4, 128]
input %m.0.a.weight bf16[96, 128] weight run layer=0
input %m.0.b.weight bf16[32, 96] weight run layer=0
input %m.0.b.bias bf16[32] weight run layer=0
%h = linear(%x, %m.0.a.weight) : bf16[4, 96] @ forward layer=0
%y = linear(%h, %m.0.b.weight, %m.0.b.bias) : bf16[4, 32] @ forward layer=0
output %y)");
  const auto add = [&](const char* name) {
    const TensorType type = graph.value(graph.find(name)).type;
    graph.parameters.push_back({.name = name,
                                .type = type,
                                .trainable = false,
                                .layer = 0,
                                .storage = {{"weight", "plain", name, type}}});
  };
  for (const char* name : {"m.0.a.weight", "m.0.b.weight", "m.0.b.bias"}) add(name);
  return graph;
}

Graph quantized(Graph graph, const QuantizationOptions& options) {
  const Pass pass = quantize_pass(options);
  Graph after = pass.run ? pass.run(std::move(graph)) : std::move(graph);
  verify_graph(after);
  return after;
}

TEST(QuantizePass, OffChangesNothing) {
  EXPECT_EQ(print_graph(quantized(two_products(), {})), print_graph(two_products()));
}

TEST(QuantizePass, PacksWeightsOfProducts) {
  const Graph graph = quantized(two_products(), kNf4);
  EXPECT_EQ(graph.nodes.size(), 2);
  for (const Node& node : graph.nodes) EXPECT_EQ(node.op, Op::packed_linear);
  EXPECT_EQ(graph.value(graph.find("m.0.a.weight")).type,
            (TensorType{DType::u8, {std::int64_t{96} * 64}}));
  EXPECT_EQ(graph.value(graph.find("m.0.a.weight.scales")).type,
            (TensorType{DType::f32, {std::int64_t{96} * 2}}));
  EXPECT_EQ(graph.value(graph.find("m.0.a.weight.scales")).role, Role::quant_state);
  EXPECT_EQ(graph.parameters[0].type, (TensorType{DType::bf16, {96, 128}}));
  ASSERT_EQ(graph.parameters[0].storage.size(), 2);
  EXPECT_EQ(graph.parameters[0].storage[0].format, "nf4");
  EXPECT_EQ(graph.parameters[2].storage[0].format, "plain");
  EXPECT_TRUE(exists(graph.nodes[1].inputs[5]));  // the bias
}

TEST(QuantizePass, DoubleQuantisationAddsItsParts) {
  const Graph graph =
      quantized(two_products(), {.load_in_4bit = true, .double_quant = true, .skip = {}});
  EXPECT_EQ(graph.parameters[0].storage.size(), 4);
  EXPECT_EQ(graph.value(graph.find("m.0.a.weight.scales")).type, (TensorType{DType::u8, {192}}));
  EXPECT_EQ(graph.value(graph.find("m.0.a.weight.nested_scales")).type,
            (TensorType{DType::f32, {1}}));
}

TEST(QuantizePass, EightBitsHaveAScaleARow) {
  const Graph graph = quantized(two_products(), {.load_in_8bit = true, .skip = {}});
  EXPECT_EQ(graph.value(graph.find("m.0.b.weight")).type,
            (TensorType{DType::i8, {std::int64_t{32} * 96}}));
  EXPECT_EQ(graph.value(graph.find("m.0.b.weight.scales")).type, (TensorType{DType::f32, {32}}));
}

TEST(QuantizePass, SkipsWhatIsListed) {
  for (const char* module : {"m.0.a", "a", "m.0.a.weight"}) {
    const Graph graph = quantized(two_products(), {.load_in_4bit = true, .skip = {module}});
    EXPECT_EQ(graph.nodes[0].op == Op::linear, std::string(module) != "m.0.a.weight") << module;
    EXPECT_EQ(graph.nodes[1].op, Op::packed_linear);
  }
}

TEST(QuantizePass, OtherReadersGetTheMatrix) {
  Graph graph = two_products();
  Builder builder(graph);
  const ValueId sum =
      builder.one(Op::add, {graph.find("m.0.a.weight"), graph.find("m.0.a.weight")}, {}, "twice");
  graph.outputs.push_back(sum);
  const Graph after = quantized(std::move(graph), kNf4);
  const auto count = [&](Op op) {
    return std::count_if(after.nodes.begin(), after.nodes.end(),
                         [&](const Node& node) { return node.op == op; });
  };
  EXPECT_EQ(count(Op::packed_linear), 2);
  EXPECT_EQ(count(Op::dequantize), 2);
}

TEST(QuantizePass, RefusesWhatWouldBeTrained) {
  Graph graph = two_products();
  graph.parameters[1].trainable = true;
  EXPECT_EQ(
      user_error_of([&] { quantize_pass(kNf4).run(std::move(graph)); }),
      "load_in_4bit=true: quantised weights cannot be trained, and 'm.0.b.weight' would be. "
      "Nearest: finetuning_type=lora load_in_4bit=true, with modules_to_save=m.0.b where it is to "
      "be trained in full.");
  EXPECT_EQ(
      user_error_of([&] {
        quantize_pass({.load_in_4bit = true, .load_in_8bit = true, .skip = {}}).run(two_products());
      }),
      "load_in_4bit and load_in_8bit are both true. Keep one.");
}

}  // namespace
}  // namespace snug
