#pragma once
// Which kernel runs a node, why others do not, and how much scratch it is granted.

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ir/program.h"
#include "plan/kernel.h"

namespace snug {

/// A node as kernels see it, with the storage that a KernelQuery refers to. Graph, node and target
/// must outlive it.
class NodeQuery {
 public:
  NodeQuery(const Graph& graph, const Node& node, const Target& target);
  NodeQuery(const NodeQuery&) = delete;
  NodeQuery& operator=(const NodeQuery&) = delete;
  operator const KernelQuery&() const { return query_; }  // NOLINT(google-explicit-constructor)

 private:
  std::vector<OperandLayout> inputs_;
  std::vector<OperandLayout> outputs_;
  KernelQuery query_;
};

/// How a value lies in memory. Tokens are absent: they hold no bytes.
OperandLayout layout_of(const Graph& graph, ValueId id);

/// Whether a kernel runs for `node`: views, and waits for copies, need none.
bool needs_kernel(const Graph& graph, const Node& node);

/// One choice, shared by all nodes that kernels cannot tell apart.
struct KernelChoice {
  const Kernel* kernel = nullptr;
  std::int64_t grant = 0;
  bool last_of_list = false;  ///< no other kernel of the back end came after it: the reference
  /// Kernels that came first, and why they refused.
  std::vector<std::pair<std::string_view, std::string>> refusals;
  std::int32_t program = -1;  ///< the first such node
  std::int32_t node = -1;
  std::int64_t nodes = 0;  ///< how many there are
};

/// Chooses kernels node by node; equal nodes share a choice, and so what the kernel prepares.
class KernelChooser {
 public:
  KernelChooser(const StepModule& module, const KernelSource& source, const Target& target)
      : module_(module), source_(source), target_(target) {}

  /// Index of the choice for a node; InternalError with every kernel's reason when all refuse.
  std::int32_t choose(std::int32_t program, std::int32_t node);
  std::int64_t grant(std::int32_t choice) const {
    return choices_[static_cast<std::size_t>(choice)].grant;
  }
  std::vector<KernelChoice> take() { return std::move(choices_); }

 private:
  KernelChoice decide(const Graph& graph, const Node& node) const;

  const StepModule& module_;
  const KernelSource& source_;
  const Target& target_;
  std::vector<KernelChoice> choices_;
  std::unordered_multimap<std::size_t, std::int32_t> by_hash_;
};

}  // namespace snug
