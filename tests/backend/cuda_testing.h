#pragma once
// The CUDA back end's kernels beside the reference, as the build has them.

#include <set>
#include <string>

#include "backend/conformance_runner.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/reference/reference.h"

namespace snug::testing {

inline Target card_target() {
  return {.backend = "cuda", .threads = 1, .libraries = {}, .card = card_from_profile("a100-80")};
}

/// Runs the case on both, compares within the tolerance, and returns the names of the kernels.
inline std::set<std::string> expect_the_references_values(const ConformanceCase& c, DType type,
                                                          CudaBackend::Kernels kernels) {
  const Graph graph = graph_of(c, type);
  const CudaBackend cuda(kernels);
  const ReferenceBackend reference;
  Runner expected(graph, reference, 1);
  expected.run();
  Runner actual(graph, cuda, 1, card_target());
  actual.run();
  for (const ValueId id : graph.outputs) {
    const Distance d = distance(actual.output(id), expected.output(id));
    const DType result = graph.value(id).type.dtype;
    EXPECT_LE(d.difference, tolerance(result, type, c.sum_length) * d.size)
        << c.name << " " << name_of(type) << " " << graph.value(id).name;
  }
  return actual.kernels();
}

}  // namespace snug::testing
