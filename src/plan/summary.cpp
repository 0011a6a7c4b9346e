#include "plan/summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/error.h"
#include "core/text.h"

namespace snug {
namespace {

Use use_of(Role role) {
  switch (role) {
    case Role::weight:
    case Role::master:
    case Role::quant_state:
      return Use::weights;
    case Role::optimizer_state:
      return Use::optimizer;
    case Role::gradient:
      return Use::gradients;
    case Role::activation:
    case Role::kv_cache:
      return Use::activations;
    case Role::input:
    case Role::scalar:
    case Role::constant:
    case Role::metric:
    case Role::scratch:
    case Role::token:
      return Use::workspace;
  }
  internal_error("role {} is of no use", static_cast<int>(role));
}

/// The words of a value's path: `layers`, `3`, `q`, `proj`.
std::set<std::string_view> words_of(std::string_view path) {
  std::set<std::string_view> words;
  while (!path.empty()) {
    const std::size_t end = std::min(path.find_first_of("._/"), path.size());
    words.insert(path.substr(0, end));
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  return words;
}

bool any_of(const std::set<std::string_view>& words,
            std::initializer_list<std::string_view> wanted) {
  return std::any_of(wanted.begin(), wanted.end(),
                     [&](std::string_view word) { return words.contains(word); });
}

std::string phase_in_words(const PeakAt& at) {
  if (at.program.starts_with("eval")) return "in evaluation";
  switch (at.phase) {
    case Phase::forward:
      return "in forward";
    case Phase::backward:
      return "in backward";
    case Phase::update:
      return "in the update";
    case Phase::init:
      return "before the first step";
  }
  internal_error("phase {} has no words", static_cast<int>(at.phase));
}

/// The part of the model an instruction works on; empty where that says nothing.
std::string part_in_words(const PeakAt& at) {
  auto words = words_of(at.value);
  words.merge(words_of(at.op));
  if (at.layer >= 0) {
    if (any_of(words, {"mlp", "gate", "up", "down", "act", "silu"})) {
      return fmt::format("in layer {}'s MLP", at.layer);
    }
    if (any_of(words, {"attn", "attention", "attended", "q", "k", "v", "o", "rope"})) {
      return fmt::format("in layer {}'s attention", at.layer);
    }
    return fmt::format("in layer {}", at.layer);
  }
  if (any_of(words, {"head"})) return "at the head";
  if (any_of(words, {"embedding", "embed"})) return "at the embedding";
  if (any_of(words, {"norm"})) {
    return at.phase == Phase::update ? "at the gradients' norm" : "at the last norm";
  }
  return "";
}

/// `bf16`, or where there are several `f32 master 1.84 GiB + bf16 weight 942.29 MiB`; what takes
/// less than a hundredth is left out.
std::string parts_in_words(const UseBytes& use) {
  std::vector<RoleBytes> parts = use.parts;
  std::erase_if(parts, [&](const RoleBytes& part) { return part.bytes < use.bytes / 100; });
  if (parts.size() == 1) return std::string(name_of(parts.front().dtype));
  std::string text;
  for (const RoleBytes& part : parts) {
    text += fmt::format("{}{} {} {}", text.empty() ? "" : " + ", name_of(part.dtype),
                        name_of(part.role), binary_bytes(part.bytes));
  }
  return text;
}

}  // namespace

std::string_view name_of(Use use) {
  constexpr std::array<std::string_view, kUses.size()> kNames = {
      "weights", "optimizer", "gradients", "activations", "workspace", "outside"};
  return kNames[static_cast<std::size_t>(use)];
}

std::string place_in_words(const PeakAt& at) {
  const std::string part = part_in_words(at);
  return phase_in_words(at) + (part.empty() ? "" : ", " + part);
}

MemorySummary summarize(const MemoryReport& report) {
  MemorySummary summary;
  for (const Use use : kUses) summary.uses.push_back({use, 0, {}});
  const auto at = [&](Use use) -> UseBytes& { return summary.uses[static_cast<std::size_t>(use)]; };
  std::int64_t alive = 0;
  if (const std::int32_t peak = report.peak_program(Space::device); peak >= 0) {
    const SpaceReport* space =
        MemoryReport::find(report.programs[static_cast<std::size_t>(peak)], Space::device);
    for (const RoleBytes& row : space->by_role) {
      UseBytes& use = at(use_of(row.role));
      use.bytes += row.bytes;
      use.parts.push_back(row);
      alive += row.bytes;
    }
    summary.peak = place_in_words(space->peak_at);
  }
  at(Use::workspace).bytes += report.arena_bytes(Space::device) - alive;
  at(Use::outside).bytes = report.outside_bytes;
  summary.needed_bytes =
      std::max(report.arena_bytes(Space::device) + report.outside_bytes, report.planning_bytes);
  summary.budget_bytes = report.budget_bytes;
  return summary;
}

std::string summary_text(const MemorySummary& summary) {
  std::string text;
  const auto add = [&](std::string_view name, std::int64_t bytes, const std::string& remark) {
    text += fmt::format("  {:<11} {:>12}{}{}\n", name, binary_bytes(bytes),
                        remark.empty() ? "" : "  ", remark);
  };
  for (const UseBytes& row : summary.uses) {
    const bool mixed = row.use == Use::workspace || row.use == Use::outside;
    add(name_of(row.use), row.bytes, mixed ? "" : parts_in_words(row));
  }
  if (summary.budget_bytes > 0) {
    const std::int64_t free = summary.budget_bytes - summary.needed_bytes;
    add(free < 0 ? "missing" : "free", free < 0 ? -free : free, "");
  }
  if (!summary.peak.empty()) text += fmt::format("peak: {}\n", summary.peak);
  return text;
}

}  // namespace snug
