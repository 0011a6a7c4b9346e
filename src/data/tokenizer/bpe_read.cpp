// Reading of the `model` part of a tokenizer.json.
#include <algorithm>

#include "core/error.h"
#include "data/tokenizer/bpe.h"
#include "data/tokenizer/utf8.h"

namespace snug {
namespace {

void refuse_other_models(const JsonView& model) {
  const auto type = model.find("type");
  if (!type && model.find("merges")) return;
  const std::string name = model.at("type").text();
  if (name == "BPE") return;
  type->fail(
      fmt::format("is '{}'; snug reads byte-pair encoding (BPE) only. Take a model whose "
                  "tokenizer.json is BPE, such as Llama 3, Qwen, SmolLM or Mistral.",
                  name));
}

bool boolean_or_false(const JsonView& model, std::string_view key) {
  const auto value = model.find(key);
  return value && value->boolean();
}

void refuse_affixes_and_dropout(const JsonView& model) {
  for (const std::string_view key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const auto affix = model.find(key);
    if (affix && !affix->text().empty()) {
      affix->fail(fmt::format("is '{}', which snug does not read.", affix->text()));
    }
  }
  const auto dropout = model.find("dropout");
  if (dropout && dropout->raw() != 0) {
    dropout->fail("makes tokens random. Set it to null for tokens that are always the same.");
  }
}

bool is_byte_token(std::string_view text) {
  return text.size() == 6 && text.starts_with("<0x") && text.ends_with('>');
}

}  // namespace

Bpe::Bpe(const JsonView& model, bool byte_level) : file_(model.file()), byte_level_(byte_level) {
  refuse_other_models(model);
  refuse_affixes_and_dropout(model);
  byte_fallback_ = boolean_or_false(model, "byte_fallback");
  fuse_unk_ = boolean_or_false(model, "fuse_unk");
  ignore_merges_ = boolean_or_false(model, "ignore_merges");
  if (const auto unknown = model.find("unk_token")) unk_token_ = unknown->text();
  read_vocabulary(model.at("vocab"));
  read_merges(model.at("merges"));
}

void Bpe::read_vocabulary(const JsonView& view) {
  const nlohmann::json& vocabulary = view.object();
  if (vocabulary.empty()) view.fail("is empty.");
  int64_t highest = 0;
  for (const auto& [token, id] : vocabulary.items()) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > uint64_t{kHighestTokenId}) {
      const auto found = view.find(token);
      if (!found) view.fail(fmt::format("gives '{}' no id.", token));
      found->whole(kHighestTokenId);
    }
    highest = std::max(highest, id.get<int64_t>());
  }
  texts_.resize(static_cast<size_t>(highest) + 1);
  std::vector<bool> taken(texts_.size());
  ids_.reserve(vocabulary.size());
  for (const auto& [token, value] : vocabulary.items()) {
    const auto id = value.get<size_t>();
    if (taken[id]) {
      view.fail(fmt::format("gives the id {} to both '{}' and '{}'.", id, texts_[id], token));
    }
    taken[id] = true;
    texts_[id] = token;
    ids_.emplace(texts_[id], static_cast<int32_t>(id));
  }
  index_characters();
  // Where unknown characters vanish, their neighbours meet: no place for a cut.
  const bool none_vanish = !unk_token_.empty() ||
                           (byte_fallback_ && std::ranges::find(byte_ids_, -1) == byte_ids_.end());
  parts_ = !byte_level_ && !ignore_merges_ && none_vanish;
}

void Bpe::index_characters() {
  low_ids_.fill(-1);
  for (const auto& [token, id] : ids_) {
    if (token.empty() || utf8_char(token, 0).size != token.size()) continue;
    const char32_t code = utf8_char(token, 0).code;
    if (code < low_ids_.size()) {
      low_ids_[code] = id;
    } else {
      char_ids_.emplace(code, id);
    }
  }
  for (size_t byte = 0; byte < byte_ids_.size(); ++byte) {
    byte_ids_[byte] = id_of(fmt::format("<0x{:02X}>", byte)).value_or(-1);
  }
}

void Bpe::read_merges(const JsonView& view) {
  const nlohmann::json& merges = view.raw();
  if (!merges.is_array()) view.fail("is not a list.");
  merges_ = MergeTable(merges.size());
  size_t rank = 0;
  for (const auto& merge : merges) {
    if (merge.is_string()) {
      const std::string_view line = merge.get_ref<const std::string&>();
      if (line.starts_with("#version")) continue;
      const size_t space = line.find(' ');
      if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
        view.fail(
            fmt::format("[{}] is '{}', expected two tokens with a space between.", rank, line));
      }
      add_merge(view, rank, line.substr(0, space), line.substr(space + 1));
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
               merge[1].is_string()) {
      add_merge(view, rank, merge[0].get_ref<const std::string&>(),
                merge[1].get_ref<const std::string&>());
    } else {
      view.fail(fmt::format("[{}] is {}, expected two tokens.", rank, kind_of(merge)));
    }
    ++rank;
  }
}

void Bpe::add_merge(const JsonView& view, size_t rank, std::string_view left,
                    std::string_view right) {
  const auto id = [&](std::string_view token) {
    const auto found = id_of(token);
    if (!found) {
      view.fail(fmt::format("[{}] merges '{}' and '{}', but '{}' is not in 'model.vocab'.", rank,
                            left, right, token));
    }
    return *found;
  };
  const int32_t left_id = id(left);
  const int32_t right_id = id(right);
  const std::string joined = std::string(left) + std::string(right);
  merges_.insert(left_id, right_id, {static_cast<int32_t>(rank), id(joined)});
  // Parts are cut by characters; symbols that do not stand for their own text forbid it.
  for (const std::string_view side : {left, right}) {
    if (side.empty() || side == unk_token_ || (byte_fallback_ && is_byte_token(side))) {
      parts_ = false;
      return;
    }
  }
  if (parts_) {
    joints_.insert(joint_of(utf8_char_before(left, left.size()).code, utf8_char(right, 0).code));
  }
}

}  // namespace snug
