#include "plan/outside.h"

#include <algorithm>
#include <string_view>
#include <unordered_set>
#include <variant>

namespace snug {
namespace {

constexpr std::int64_t kMebibyte = std::int64_t{1} << 20;
/// Data of the program and its libraries, the heap's own, what settings and folders hold.
constexpr std::int64_t kProgram = 6 * kMebibyte;
/// The touched part of a stack, and the kernel's own of a thread.
constexpr std::int64_t kThread = 160 << 10;
/// Buffers of what is read and written.
constexpr std::int64_t kBuffers = 2 * kMebibyte;
/// Of a tensor in a header: its entry as text, as JSON and as what is read from it.
constexpr std::int64_t kTensorEntry = 1536;
/// A block of the heap beyond what was asked for.
constexpr std::int64_t kBlock = 16;
/// A node of a map beyond its key and value.
constexpr std::int64_t kMapNode = 48;
/// Graphs of a program's size that passes, and the candidates of the search, hold at once.
constexpr std::int64_t kGraphsAtOnce = 8;
/// Of a storage: its interval, its block and its places in the tree that addresses are found with.
constexpr std::int64_t kStorageAtWork = 224;
/// Bytes of a weight's elements that one thread converts at a time.
constexpr std::int64_t kConverted = std::int64_t{1} << 17;

std::int64_t text_bytes(std::string_view text) {
  constexpr std::size_t kWithin = 15;  // kept in the string itself
  return text.size() <= kWithin ? 0 : static_cast<std::int64_t>(text.size()) + 1 + kBlock;
}

template <class T>
std::int64_t vector_bytes(const std::vector<T>& list) {
  if (list.empty()) return 0;
  return static_cast<std::int64_t>(list.capacity() * sizeof(T)) + kBlock;
}

std::int64_t attribute_bytes(const Attributes& attributes) {
  std::int64_t bytes = sizeof(Attributes) + kBlock;
  for (const auto& [key, value] : attributes.items()) {
    bytes += static_cast<std::int64_t>(sizeof(std::pair<std::string, AttributeValue>));
    bytes += text_bytes(key);
    if (const auto* text = std::get_if<std::string>(&value)) bytes += text_bytes(*text);
  }
  return bytes + kBlock;
}

std::int64_t graph_bytes(const Graph& graph) {
  std::int64_t bytes = sizeof(Program);
  for (std::int32_t v = 0; v < graph.value_count(); ++v) {
    constexpr std::int64_t kSlots = 4 * sizeof(ValueId);
    bytes += static_cast<std::int64_t>(sizeof(Value)) + kSlots +
             text_bytes(graph.value(static_cast<ValueId>(v)).name);
  }
  for (const Node& node : graph.nodes) {
    bytes += static_cast<std::int64_t>(sizeof(Node)) + vector_bytes(node.inputs) +
             vector_bytes(node.outputs) + attribute_bytes(node.attributes);
  }
  return bytes;
}

std::int64_t plan_bytes(const ProgramPlan& program) {
  return vector_bytes(program.instructions) + vector_bytes(program.operands) +
         vector_bytes(program.waits) + vector_bytes(program.storages) +
         vector_bytes(program.storage_of) +
         static_cast<std::int64_t>(program.storages.size() + program.instructions.size()) *
             kStorageAtWork;
}

/// Programs ready to be played (exec/sequence.h).
std::int64_t sequence_bytes(const StepModule& module, const Plan& plan) {
  std::int64_t bytes = 0;
  // Nodes of one choice differ in their random streams at most.
  std::unordered_set<std::int64_t> streams;
  std::int64_t largest = 0;
  for (std::size_t p = 0; p < plan.programs.size(); ++p) {
    const ProgramPlan& program = plan.programs[p];
    bytes += static_cast<std::int64_t>(program.instructions.size()) * kStepBytes +
             static_cast<std::int64_t>(program.operands.size()) * kOperandBytes +
             vector_bytes(program.waits) + kStepBytes;
    for (const Node& node : module.programs[p].graph.nodes) {
      const bool drawn = node.attributes.has("stream");
      if (drawn && !streams.insert(node.attributes.integer("stream")).second) continue;
      const std::int64_t own = attribute_bytes(node.attributes);
      largest = std::max(largest, own);
      if (drawn) bytes += own;
    }
  }
  constexpr std::int64_t kPreparedAndLayouts = 512;
  return bytes + static_cast<std::int64_t>(plan.choices.size()) * (largest + kPreparedAndLayouts);
}

std::int64_t table_bytes(const StepModule& module, const Plan& plan) {
  std::int64_t bytes = 0;
  for (const Parameter& parameter : module.parameters) {
    bytes += static_cast<std::int64_t>(sizeof(Parameter)) + text_bytes(parameter.name) +
             text_bytes(parameter.measured) + vector_bytes(parameter.storage);
    for (const StorageComponent& part : parameter.storage) bytes += text_bytes(part.value);
  }
  for (const Root& root : plan.roots) {
    bytes += static_cast<std::int64_t>(sizeof(Root) + sizeof(std::string)) + kMapNode +
             2 * text_bytes(root.name);
  }
  constexpr std::int64_t kPorts = 8192;  // and four peaks
  return bytes + static_cast<std::int64_t>(plan.programs.size()) * kPorts;
}

/// Reading and saving: an entry for each stored tensor; what quantising holds on the way.
std::int64_t file_bytes(const StepModule& module, const Target& target, const RunBytes& run) {
  std::int64_t bytes = kBuffers;
  std::int64_t quantised = 0;
  for (const Parameter& parameter : module.parameters) {
    bytes += static_cast<std::int64_t>(parameter.storage.size() + 1) * kTensorEntry;
    if (parameter.storage.front().format == "plain") continue;
    // A scale in fp32 for each block of 64 before scales are quantised; drawn weights as a whole.
    std::int64_t held = parameter.type.shape.elements() / 16 + target.threads * kConverted;
    if (parameter.type.shape.rank() == 2)
      held += std::int64_t{8} * target.threads * parameter.type.shape[1];
    if (run.fills_weights) held += parameter.type.bytes();
    quantised = std::max(quantised, held);
  }
  return bytes + quantised;
}

}  // namespace

OutsideBytes outside_bytes(const StepModule& module, const Plan& plan, const RunBytes& run) {
  OutsideBytes bytes;
  if (plan.target.card.present()) {  // of its memory the context alone
    bytes.program = plan.target.card.overhead_bytes;
    return bytes;
  }
  bytes.program = kProgram;
  bytes.threads = (plan.target.threads + static_cast<std::int64_t>(kLanes)) * kThread;
  bytes.rows = run.rows;
  bytes.history = run.history;
  bytes.sequences = sequence_bytes(module, plan);
  bytes.tables = table_bytes(module, plan);
  bytes.files = file_bytes(module, plan.target, run);
  bytes.page_tables = plan.arena(Space::device).bytes / 512 + kMebibyte / 4;
  return bytes;
}

std::int64_t planning_bytes(const StepModule& module, const Plan& plan, const RunBytes& run) {
  if (plan.target.card.present()) return 0;
  std::int64_t bytes =
      kProgram + run.rows + sequence_bytes(module, plan) + 2 * table_bytes(module, plan);
  std::int64_t largest = 0;
  for (std::size_t p = 0; p < plan.programs.size(); ++p) {
    const std::int64_t graph = graph_bytes(module.programs[p].graph);
    largest = std::max(largest, graph);
    bytes += graph + plan_bytes(plan.programs[p]);
  }
  return std::max(bytes + kGraphsAtOnce * largest, kProgram + run.reading);
}

}  // namespace snug
