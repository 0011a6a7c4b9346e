#pragma once
// The graph of one program: values and a list of nodes whose order is the program order.
//
// A value is written once. An op that changes a state in place returns a *version*: a new value
// whose `base` is the value it updates. A view shares its base's storage too. Values that share
// storage have one root (Graph::root); run- and step-scoped roots keep their name in every program
// of a step, and that name is how programs share them.

#include <compare>
#include <cstdint>
#include <functional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "ir/attributes.h"
#include "ir/parameters.h"
#include "ir/type.h"

namespace snug {

enum class Op : std::uint16_t;  // ir/op.h

enum class Space : std::uint8_t { device, host, disk };
enum class Role : std::uint8_t {
  weight,
  master,
  gradient,
  optimizer_state,
  quant_state,
  activation,
  kv_cache,
  input,
  scalar,
  constant,
  metric,
  scratch,
  token
};
/// How long a value keeps its place: the whole run, one optimizer step, one program call, one
/// generation session.
enum class Scope : std::uint8_t { run, step, call, session };
/// The part of a step a node belongs to; `init` runs once before the first step.
enum class Phase : std::uint8_t { forward, backward, update, init };
/// Where a node runs: lanes run side by side, a lane runs its nodes in order.
enum class Lane : std::uint8_t { compute, copy_in, copy_out, disk, comm };

/// Index of a value in its graph; kNoValue stands for an absent optional operand.
enum class ValueId : std::int32_t {};
inline constexpr ValueId kNoValue{-1};
constexpr bool exists(ValueId id) { return id != kNoValue; }

struct Value {
  std::string name;  ///< unique path, e.g. `layers.3.mlp.gate`; stable across compiles
  TensorType type;
  Space space = Space::device;
  Role role = Role::activation;
  Scope scope = Scope::call;
  ValueId base = kNoValue;      ///< shares storage with: what a view looks into, a version updates
  std::int64_t offset = 0;      ///< a view's first element, counted in its base
  std::int64_t row_stride = 0;  ///< elements between rows (outermost dimension); 0 = dense
  int layer = -1;               ///< set by the model builder; -1 outside the layers
};

struct Node {
  Op op;
  std::vector<ValueId> inputs;  ///< kNoValue where an optional operand is absent
  std::vector<ValueId> outputs;
  Attributes attributes;
  Phase phase = Phase::forward;
  Lane lane = Lane::compute;
  int layer = -1;
};

/// What passes promise each other; declared and checked by the pipeline.
using Facts = std::set<std::string, std::less<>>;
namespace facts {
inline constexpr std::string_view kTyped = "typed";
inline constexpr std::string_view kDifferentiated = "differentiated";
inline constexpr std::string_view kGradientsComplete = "gradients_complete";
inline constexpr std::string_view kAccumulationClosed = "accumulation_closed";
inline constexpr std::string_view kRecomputed = "recomputed";
inline constexpr std::string_view kOptimized = "optimized";
}  // namespace facts

class Graph {
 public:
  explicit Graph(std::string name = "graph") : name_(std::move(name)) {}

  const std::string& name() const { return name_; }
  void rename(std::string name) { name_ = std::move(name); }

  /// Adds a value; its name must be new. A value no node produces is an input of the program.
  ValueId add_value(Value value);
  const Value& value(ValueId id) const { return values_[index(id)]; }
  Value& value(ValueId id) { return values_[index(id)]; }
  std::int64_t value_count() const { return static_cast<std::int64_t>(values_.size()); }
  /// The value of that name, or kNoValue.
  ValueId find(std::string_view name) const;
  /// `name`, or `name.2`, `name.3`, ... : the first that no value has.
  std::string fresh_name(std::string_view name) const;
  void rename_value(ValueId id, std::string name);

  /// Nodes in program order. Passes edit the list freely and end with a legal order (verify.h).
  std::vector<Node> nodes;
  /// Values that outlive the call: metrics, gradients, new versions of states.
  std::vector<ValueId> outputs;
  ParameterTable parameters;
  Facts facts;

  /// The value at the end of the chain of bases: the one that owns the storage.
  ValueId root(ValueId id) const;
  /// Elements between rows, whether stored or dense.
  std::int64_t row_stride(ValueId id) const;
  /// Bytes from the start of the root's storage.
  std::int64_t byte_offset(ValueId id) const;

  /// For each value the index of the node that produces it; -1 for inputs.
  std::vector<std::int32_t> producers() const;
  /// For each value the index of the last node that reads it or writes it; -1 when none does.
  std::vector<std::int32_t> last_uses() const;
  /// Replaces every read of `from` (nodes' inputs, outputs of the program, bases) by `to`.
  void replace_uses(ValueId from, ValueId to);
  /// Removes nodes none of whose outputs is read or is an output of the program, and then the
  /// values nobody mentions. Renumbers values.
  void remove_dead();

 private:
  static std::size_t index(ValueId id) { return static_cast<std::size_t>(id); }
  std::string name_;
  std::vector<Value> values_;
  std::unordered_map<std::string, ValueId> by_name_;
};

std::string_view name_of(Space space);
std::string_view name_of(Role role);
std::string_view name_of(Scope scope);
std::string_view name_of(Phase phase);
std::string_view name_of(Lane lane);

/// Parses a name that name_of printed; InternalError for another. E is one of the enums above.
template <class E>
E enum_from_name(std::string_view name);

}  // namespace snug
