#pragma once
// Which values to recompute under a byte limit.
//
// The choices form one sequence. Its trunk is nested: its first choice keeps what crosses layers
// (and the last layer, which is alive at the peak in any case, or more where that lowers the peak),
// the last keeps everything, and each keeps one value (all results of one forward node) more than
// the one before. The next value is the one that spares most time a byte, by nominal rates; equal
// layers share one ranking, and among them later layers come first, since what they keep dies first
// in backward. Before the trunk, where that lowers the peak, come choices that keep ever fewer of
// the layers' outputs and recompute the rest first (Kept::nested). Each choice recomputes no more
// than the one before it and a limit is answered by bisection over them, so a larger limit never
// recomputes more.

#include <cstdint>
#include <string>
#include <vector>

#include "ir/graph.h"
#include "passes/recompute_clones.h"

namespace snug {

/// Most bytes alive at one instruction of a step's graph, by exact liveness, unaligned. Activations
/// are all values that live within one call but gradients of parameters; kernels' scratch is none.
struct LivePeak {
  std::int64_t activations = 0;
  std::int64_t with_gradients = 0;  ///< and gradients, while they are alive
  std::int64_t gradients = 0;       ///< all gradients at once
};
LivePeak live_peak(const Graph& differentiated);

class RecomputeChoices {
 public:
  /// Of a differentiated graph in which nothing is recomputed yet.
  explicit RecomputeChoices(const Graph& differentiated);

  std::size_t count() const { return nested_.size() + steps_.size() + 1; }
  /// For with_clones() of the graph.
  Kept kept(std::size_t choice) const;
  /// What its clones take; 0 for the last choice.
  double seconds(std::size_t choice) const;
  LivePeak peak(std::size_t choice) const;
  /// The last choice found by bisection for which `fits` holds; choice 0 is taken to fit.
  template <class Fits>
  std::size_t last(Fits&& fits) const {
    std::size_t low = 0;
    std::size_t high = count();
    while (high - low > 1) {
      // The first look is at the last choice: mostly, when asked, everything can be kept or little.
      const std::size_t middle = high == count() ? count() - 1 : (low + high) / 2;
      (fits(middle) ? low : high) = middle;
    }
    return low;
  }

 private:
  /// One more unit kept.
  struct Step {
    double seconds = 0;  ///< spared
    double ratio = 0;    ///< seconds spared a byte, never above the step's before it in a layer
    int layer = 0;
    int rank = 0;  ///< in its layer's ranking
    std::vector<ValueId> values;
  };
  /// Outputs of layers that are recomputed first, those of one layer more a choice back.
  struct Nested {
    double seconds = 0;
    std::vector<ValueId> values;
  };
  /// What it takes to recompute a layer's output.
  using Output = Nested;
  /// Starts the trunk at the choice of the lowest peak.
  void drop_dominated(int last_layer, std::size_t layers);
  /// Puts choices of lower peaks before it.
  void add_nested(const std::vector<Output>& outputs);

  Graph skeleton_;  ///< the step without names and attributes
  std::vector<bool> always_;
  std::vector<Nested> nested_;
  std::vector<Step> steps_;
};

/// Throws the UserError that a limit of activations cannot be kept, naming the tightest that can.
[[noreturn]] void refuse_limit(std::int64_t limit, std::int64_t tightest);

/// The values to keep so that activations take at most `limit` bytes. UserError naming the tightest
/// limit that works when they cannot.
Kept kept_under_limit(const Graph& differentiated, std::int64_t limit);

}  // namespace snug
