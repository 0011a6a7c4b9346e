#pragma once
// The graph's text form: what `snug explain` prints and golden tests compare. print and parse are
// inverse to each other.
//
//   graph micro
//   facts differentiated typed
//   parameter model.norm.weight f32[8] trainable uses=1 storage=weight:plain:model.norm.weight:0:32
//   input %model.norm.weight f32[8] weight run
//   %norm = rms_norm(%x, %model.norm.weight) {eps=1e-06} : f32[4, 8] forward
//   output %norm
//
// An absent operand is `_`. What is left out is the default: device, activation, call, compute.

#include <string>
#include <string_view>

#include "ir/graph.h"

namespace snug {

std::string print_graph(const Graph& graph);

/// Parses the text form. UserError with the line number when it is malformed.
Graph parse_graph(std::string_view text);

}  // namespace snug
