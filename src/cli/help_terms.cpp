#include "cli/help_terms.h"

#include <fmt/format.h>

#include <array>

namespace snug {
namespace {

struct Term {
  std::string_view word;
  std::string_view text;
};

constexpr std::array<Term, 9> kTerms = {{
    {"arena",
     "The one stretch of memory that every value of a run lies in, from weights to scratch. Its "
     "size is the highest address of the plan. It is reserved and filled with pages before step 1, "
     "and no step takes anything beside it."},
    {"peak",
     "The instruction of the step during which most bytes are alive, and those bytes. `plan` says "
     "in words where it is, such as `in backward, at the head`. Training logs the planned peak and "
     "the used one, and the two are equal once the longest batch has come."},
    {"bound",
     "The most bytes that are alive at one instant: no way to place the values in memory needs "
     "less. `0.00 % above the bound` says that nothing is lost between them."},
    {"outside",
     "What the process holds beside the arena: the program and its libraries' own memory, the "
     "tokenised rows, the plan; on a card the driver's context. device_memory counts it: a run "
     "fits "
     "when arena and outside together are no more."},
    {"weights",
     "The model's parameters as they are computed with, fp32 master copies and the scales of "
     "quantised weights."},
    {"optimizer", "The optimizer's state, such as Adam's two moments of each trained parameter."},
    {"activations",
     "What forward computes and keeps for backward. They grow linearly with rows and with their "
     "length; the scores of attention, which would grow with the square, are never held."},
    {"workspace",
     "Scratch of the kernels, the inputs of a batch and constants, and what lies free between "
     "values at the peak."},
    {"classes",
     "What a technique does to results. exact: the same bits as without it. reordered: the same "
     "sums in another order, so that the last bits of a rounding may differ. changed: other "
     "arithmetic, such as a smaller type or fewer trained weights. The tests hold each technique "
     "to "
     "its class."},
}};

std::string entry(const Term& term, const Terminal& terminal) {
  return fmt::format("{}\n{}", terminal.bold(term.word), wrapped(term.text, 2, terminal.width));
}

}  // namespace

std::string terms_for(std::string_view topic, const Terminal& terminal) {
  std::string text;
  for (const Term& term : kTerms) {
    if (topic == term.word || topic == "memory") text += entry(term, terminal);
  }
  return text;
}

}  // namespace snug
