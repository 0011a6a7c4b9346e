#include "train/gguf_scores.h"

#include <set>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "core/error.h"
#include "data/tokenizer/utf8.h"

namespace snug {
namespace {

constexpr auto kNearest =
    "so the merges are not a sentencepiece model's, and llama.cpp's scores cannot say them. "
    "Nearest: export_format=safetensors.";

/// Below all merges: tokens that no merge makes.
constexpr float kUnjoined = -1e6F;

}  // namespace

std::vector<std::pair<std::string_view, std::string_view>> merges_of(const JsonView& model) {
  std::vector<std::pair<std::string_view, std::string_view>> merges;
  const JsonView listed = model.at("merges");
  for (const auto& merge : listed.raw()) {
    if (merge.is_string()) {
      const std::string_view text = merge.get_ref<const std::string&>();
      const std::size_t space = text.find(' ');
      merges.emplace_back(text.substr(0, space), text.substr(space + 1));
    } else {
      merges.emplace_back(merge[0].get_ref<const std::string&>(),
                          merge[1].get_ref<const std::string&>());
    }
  }
  return merges;
}

std::vector<float> scores_of(const JsonView& model, const std::vector<std::string>& tokens,
                             const std::vector<bool>& joined) {
  const auto merges = merges_of(model);
  const std::set<std::pair<std::string_view, std::string_view>> pairs(merges.begin(), merges.end());
  std::unordered_map<std::string, float> score_of;
  std::string last;
  for (const auto& [left, right] : merges) {
    std::string token = std::string(left) + std::string(right);
    if (token == last) continue;
    const auto rank = static_cast<float>(score_of.size());
    if (!score_of.emplace(token, -rank).second) {
      model.at("merges").fail(fmt::format("make '{}' at two places, {}", token, kNearest));
    }
    last = std::move(token);
  }
  const JsonView listed = model.at("vocab");
  const nlohmann::json& vocabulary = listed.object();
  const auto is_symbol = [&](std::string_view part) {
    return utf8_char(part, 0).size == part.size() || vocabulary.contains(part);
  };
  std::vector<float> scores(tokens.size(), kUnjoined);
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    const std::string_view token = tokens[id];
    const auto found = score_of.find(tokens[id]);
    if (found != score_of.end()) scores[id] = found->second;
    if (!joined[id]) continue;
    for (std::size_t cut = 0; (cut += utf8_char(token, cut).size) < token.size();) {
      const auto left = token.substr(0, cut);
      const auto right = token.substr(cut);
      if (is_symbol(left) && is_symbol(right) && !pairs.contains({left, right})) {
        model.at("merges").fail(
            fmt::format("do not join '{}' and '{}' to '{}', {}", left, right, token, kNearest));
      }
    }
  }
  return scores;
}

}  // namespace snug
