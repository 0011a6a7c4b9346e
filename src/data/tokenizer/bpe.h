#pragma once
// The `model` of a tokenizer.json: byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909)
// with the variants that the `tokenizers` package has.

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "data/tokenizer/json_view.h"
#include "data/tokenizer/merge_table.h"
#include "data/tokenizer/piece_cache.h"

namespace snug {

/// The highest token id that snug reads.
inline constexpr int64_t kHighestTokenId = (int64_t{1} << 22) - 1;

/// Immutable and safe to share between threads.
class Bpe {
 public:
  /// What one thread needs for encoding.
  struct Scratch {
    PieceCache cache;
    std::string spelled;
    std::vector<int32_t> ids;
    std::vector<MergeTable::Merge> merges;  // of each id with its right neighbour
    std::vector<int32_t> previous, next;    // neighbours, -1 at the ends
    std::vector<uint64_t> heap;             // rank above position, smallest first
  };

  /// Reads `model`. `byte_level`: pieces are spelled in the byte-level alphabet first. UserError
  /// naming file and key for another kind of model, ids out of range or given twice, and merges of
  /// or into tokens that are not in the vocabulary.
  Bpe(const JsonView& model, bool byte_level);

  Bpe(Bpe&&) = default;
  Bpe& operator=(Bpe&&) = default;
  Bpe(const Bpe&) = delete;
  Bpe& operator=(const Bpe&) = delete;

  /// Appends the tokens of a piece (valid UTF-8) to `out`. UserError for a character that has no
  /// token when `unk_token` names a token that is not in the vocabulary.
  void encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& out) const;

  std::optional<int32_t> id_of(std::string_view token) const;
  /// Empty for an id that is not in the vocabulary.
  std::string_view text_of(int32_t id) const;
  /// Tokens in the vocabulary.
  int64_t size() const { return static_cast<int64_t>(ids_.size()); }
  /// One more than the highest id.
  int64_t id_end() const { return static_cast<int64_t>(texts_.size()); }

 private:
  void read_vocabulary(const JsonView& view);
  void read_merges(const JsonView& view);
  void add_merge(const JsonView& view, size_t rank, std::string_view left, std::string_view right);
  void index_characters();
  int32_t id_of_char(char32_t code) const {
    if (code < low_ids_.size()) return low_ids_[code];
    const auto found = char_ids_.find(code);
    return found == char_ids_.end() ? -1 : found->second;
  }
  int32_t unknown_id() const;

  /// A joint: two neighbouring characters that some merge brings together.
  static uint64_t joint_of(char32_t left, char32_t right) {
    return static_cast<uint64_t>(left) << 32 | right;
  }

  void encode_short(std::string_view piece, Scratch& scratch, std::vector<int32_t>& out) const;
  void encode_in_parts(std::string_view piece, Scratch& scratch, std::vector<int32_t>& out) const;
  void first_symbols(std::string_view piece, std::vector<int32_t>& ids) const;
  bool fall_back_to_bytes(std::string_view character, std::vector<int32_t>& ids) const;
  void merge_by_scan(Scratch& scratch) const;
  void merge_by_heap(Scratch& scratch) const;

  std::string file_;
  bool byte_level_;
  bool byte_fallback_ = false;
  bool fuse_unk_ = false;
  bool ignore_merges_ = false;
  std::string unk_token_;  // empty: none

  std::vector<std::string> texts_;                     // by id
  std::unordered_map<std::string_view, int32_t> ids_;  // views of texts_
  MergeTable merges_;
  std::array<int32_t, 256> byte_ids_{};             // of <0x00> to <0xFF>, or -1
  std::array<int32_t, 0x180> low_ids_{};            // of characters below U+0180, or -1
  std::unordered_map<char32_t, int32_t> char_ids_;  // of the other characters
  std::unordered_set<uint64_t> joints_;
  bool parts_ = false;  // a long piece may be encoded in parts, cut where no merge can join
};

}  // namespace snug
