#include "plan/timeline.h"

#include <algorithm>
#include <limits>

#include "ir/op.h"
#include "ir/storage_roots.h"

namespace snug {
namespace {

std::vector<Part> parts_of(const StepModule& module, const std::vector<Liveness>& live) {
  std::vector<Part> parts(module.programs.size(), Part::outside);
  for (std::size_t p = 0; p < parts.size(); ++p) {
    const bool session =
        std::any_of(live[p].intervals.begin(), live[p].intervals.end(),
                    [](const StorageInterval& i) { return i.scope == Scope::session; });
    if (session) parts[p] = Part::session;
  }
  const auto set = [&](std::int32_t program, Part part) {
    if (program < 0) return;
    Part& now = parts[static_cast<std::size_t>(program)];
    if (now == Part::session) return;  // a generation's script names its prefill and decode
    check(now == Part::outside || now == part, "program '{}' plays two parts",
          module.programs[static_cast<std::size_t>(program)].name);
    now = part;
  };
  for (const StepScript::Bucket& bucket : module.script.buckets) {
    set(bucket.first, Part::first);
    set(bucket.next, Part::next);
  }
  set(module.script.update, Part::update);
  return parts;
}

}  // namespace

Timeline::Timeline(const StepModule& module, const std::vector<Liveness>& live)
    : starts_(module.programs.size(), 0), parts_(parts_of(module, live)) {
  for (const Program& program : module.programs) {
    sizes_.push_back(static_cast<std::int32_t>(program.graph.nodes.size()) + 2);
  }
  for (const Part part : {Part::outside, Part::session, Part::first, Part::next, Part::update}) {
    for (std::size_t p = 0; p < parts_.size(); ++p) {
      if (parts_[p] != part) continue;
      starts_[p] = instants_;
      instants_ += sizes_[p];
    }
  }
}

std::int32_t Timeline::part_begin(Part part) const {
  std::int32_t begin = std::numeric_limits<std::int32_t>::max();
  for (std::size_t p = 0; p < parts_.size(); ++p) {
    if (parts_[p] == part) begin = std::min(begin, starts_[p]);
  }
  return begin;
}

std::int32_t Timeline::part_end(Part part) const {
  std::int32_t end = -1;
  for (std::size_t p = 0; p < parts_.size(); ++p) {
    if (parts_[p] == part) end = std::max(end, starts_[p] + sizes_[p] - 1);
  }
  return end;
}

bool Timeline::outlives(std::size_t program, Scope scope) const {
  if (scope == Scope::step) return parts_[program] >= Part::first;
  return scope != Scope::call;
}

std::vector<Touch> touches(const Graph& graph, const Liveness& live) {
  const auto count = static_cast<std::int32_t>(graph.nodes.size());
  std::vector<Touch> result(live.intervals.size(), {count, -1});
  const auto touch = [&](ValueId id, std::int32_t instant) {
    const std::int32_t interval = live.interval_of[static_cast<std::size_t>(id)];
    if (interval < 0) return;
    Touch& t = result[static_cast<std::size_t>(interval)];
    t.first = std::min(t.first, instant);
    t.last = std::max(t.last, instant);
  };
  const std::vector<ValueId> roots = storage_roots(graph);
  std::vector<bool> produced(live.interval_of.size(), false);
  std::vector<ValueId> copied(live.interval_of.size(), kNoValue);  // by token
  for (std::int32_t n = 0; n < count; ++n) {
    const Node& node = graph.nodes[static_cast<std::size_t>(n)];
    for (const ValueId id : node.inputs) {
      if (!exists(id)) continue;
      touch(id, n);
      if (!produced[static_cast<std::size_t>(roots[static_cast<std::size_t>(id)])]) touch(id, -1);
    }
    for (const ValueId id : node.outputs) {
      if (!exists(id)) continue;
      touch(id, n);
      produced[static_cast<std::size_t>(id)] = true;
    }
    // An asynchronous copy reads its source until it has been waited for.
    if (node.op == Op::copy_start) {
      copied[static_cast<std::size_t>(node.outputs[1])] = node.inputs[0];
    }
    if (node.op == Op::copy_wait) {
      const ValueId source = copied[static_cast<std::size_t>(node.inputs[1])];
      if (exists(source)) touch(source, n);
    }
  }
  for (const ValueId id : graph.outputs) touch(id, count);
  return result;
}

}  // namespace snug
