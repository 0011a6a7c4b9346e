#include "data/tokenizer/bpe.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "core/error.h"
#include "data/tokenizer/byte_alphabet.h"
#include "data/tokenizer/utf8.h"

namespace snug {
namespace {

constexpr int32_t kNone = -1;
constexpr MergeTable::Merge kNoMerge{INT32_MAX, kNone};
constexpr size_t kLongestScan = 64;    // symbols; beyond it a heap finds the next merge sooner
constexpr size_t kShortestParts = 48;  // bytes

}  // namespace

std::optional<int32_t> Bpe::id_of(std::string_view token) const {
  const auto found = ids_.find(token);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

std::string_view Bpe::text_of(int32_t id) const {
  if (id < 0 || id >= id_end()) return {};
  return texts_[static_cast<size_t>(id)];
}

int32_t Bpe::unknown_id() const {
  if (const auto id = id_of(unk_token_)) return *id;
  user_error("{}: 'model.unk_token' is '{}', which is not in 'model.vocab'.", file_, unk_token_);
}

void Bpe::encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& out) const {
  if (piece.empty()) return;
  if (parts_ && piece.size() >= kShortestParts) return encode_in_parts(piece, scratch, out);
  encode_short(piece, scratch, out);
}

// No merge joins two characters that are no joint, so the sides of such a place do not influence
// each other. Only a character with a token of its own may begin a part: neighbouring unknown
// characters can become one token.
void Bpe::encode_in_parts(std::string_view piece, Scratch& scratch,
                          std::vector<int32_t>& out) const {
  size_t begin = 0;
  Utf8Char last = utf8_char(piece, 0);
  for (size_t at = last.size; at < piece.size();) {
    const Utf8Char c = utf8_char(piece, at);
    if (!joints_.contains(joint_of(last.code, c.code)) && id_of_char(c.code) != kNone) {
      encode_short(piece.substr(begin, at - begin), scratch, out);
      begin = at;
    }
    last = c;
    at += c.size;
  }
  encode_short(piece.substr(begin), scratch, out);
}

void Bpe::encode_short(std::string_view piece, Scratch& scratch, std::vector<int32_t>& out) const {
  if (const auto known = scratch.cache.find(piece)) {
    out.insert(out.end(), known->begin(), known->end());
    return;
  }
  std::string_view text = piece;
  if (byte_level_) {
    spell_bytes(piece, scratch.spelled);
    text = scratch.spelled;
  }
  scratch.ids.clear();
  const auto whole = ignore_merges_ ? id_of(text) : std::nullopt;
  if (whole) {
    scratch.ids.push_back(*whole);
  } else {
    first_symbols(text, scratch.ids);
    if (scratch.ids.size() <= kLongestScan) {
      merge_by_scan(scratch);
    } else {
      merge_by_heap(scratch);
    }
  }
  scratch.cache.store(piece, scratch.ids);
  out.insert(out.end(), scratch.ids.begin(), scratch.ids.end());
}

bool Bpe::fall_back_to_bytes(std::string_view character, std::vector<int32_t>& ids) const {
  const auto id_of_byte = [&](char byte) { return byte_ids_[static_cast<unsigned char>(byte)]; };
  if (std::ranges::any_of(character, [&](char byte) { return id_of_byte(byte) == kNone; })) {
    return false;
  }
  for (const char byte : character) ids.push_back(id_of_byte(byte));
  return true;
}

void Bpe::first_symbols(std::string_view piece, std::vector<int32_t>& ids) const {
  // An unknown token waits until the next known one, so that others can fuse with it; bytes that a
  // character falls back to overtake it, as in the `tokenizers` package.
  int32_t waiting = kNone;
  const auto unknown = [&] {
    if (unk_token_.empty()) return;
    if (waiting != kNone && fuse_unk_) return;
    if (waiting != kNone) ids.push_back(waiting);
    waiting = unknown_id();
  };
  const auto known = [&](int32_t id) {
    if (waiting != kNone) ids.push_back(std::exchange(waiting, kNone));
    ids.push_back(id);
  };
  for (size_t at = 0; at < piece.size();) {
    const Utf8Char c = utf8_char(piece, at);
    const int32_t id = id_of_char(c.code);
    if (id != kNone) {
      known(id);
    } else if (!byte_fallback_ || !fall_back_to_bytes(piece.substr(at, c.size), ids)) {
      unknown();
    }
    at += c.size;
  }
  if (waiting != kNone) ids.push_back(waiting);
}

// Few symbols: look at all pairs for the lowest rank, leftmost first, until none merges.
void Bpe::merge_by_scan(Scratch& scratch) const {
  std::vector<int32_t>& ids = scratch.ids;
  std::vector<MergeTable::Merge>& merges = scratch.merges;
  const auto merge_at = [&](size_t i) {
    const auto* found = i + 1 < ids.size() ? merges_.find(ids[i], ids[i + 1]) : nullptr;
    return found ? *found : kNoMerge;
  };
  merges.clear();
  for (size_t i = 0; i < ids.size(); ++i) merges.push_back(merge_at(i));
  while (true) {
    const auto best = std::ranges::min_element(merges, {}, &MergeTable::Merge::rank);
    if (best == merges.end() || best->id == kNone) return;
    const auto i = static_cast<size_t>(best - merges.begin());
    ids[i] = best->id;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    merges.erase(best + 1);
    merges[i] = merge_at(i);
    if (i > 0) merges[i - 1] = merge_at(i - 1);
  }
}

// Many symbols: a heap of (rank, position) over a linked list. An entry whose pair has changed
// since is passed over: a rank belongs to one pair.
void Bpe::merge_by_heap(Scratch& scratch) const {
  std::vector<int32_t>& ids = scratch.ids;
  std::vector<int32_t>& previous = scratch.previous;
  std::vector<int32_t>& next = scratch.next;
  const auto count = static_cast<int32_t>(ids.size());
  previous.resize(ids.size());
  next.resize(ids.size());
  const auto symbol = [&](int32_t i) -> int32_t& { return ids[static_cast<size_t>(i)]; };
  const auto after = [&](int32_t i) -> int32_t& { return next[static_cast<size_t>(i)]; };
  const auto before = [&](int32_t i) -> int32_t& { return previous[static_cast<size_t>(i)]; };

  std::vector<uint64_t>& heap = scratch.heap;
  heap.clear();
  const auto push = [&](int32_t i) {
    if (i == kNone || after(i) == kNone) return false;
    const auto* merge = merges_.find(symbol(i), symbol(after(i)));
    if (!merge) return false;
    heap.push_back(static_cast<uint64_t>(merge->rank) << 32 | static_cast<uint32_t>(i));
    return true;
  };
  const auto push_in_order = [&](int32_t i) {
    if (push(i)) std::ranges::push_heap(heap, std::greater<>());
  };
  for (int32_t i = 0; i < count; ++i) {
    before(i) = i - 1;
    after(i) = i + 1 < count ? i + 1 : kNone;
  }
  for (int32_t i = 0; i < count; ++i) push(i);
  std::ranges::make_heap(heap, std::greater<>());

  while (!heap.empty()) {
    std::ranges::pop_heap(heap, std::greater<>());
    const auto rank = static_cast<int32_t>(heap.back() >> 32);
    const auto i = static_cast<int32_t>(heap.back() & 0xFFFFFFFFU);
    heap.pop_back();
    const int32_t right = symbol(i) == kNone ? kNone : after(i);
    if (right == kNone) continue;
    const auto* merge = merges_.find(symbol(i), symbol(right));
    if (!merge || merge->rank != rank) continue;
    symbol(i) = merge->id;
    symbol(right) = kNone;
    after(i) = after(right);
    if (after(i) != kNone) before(after(i)) = i;
    push_in_order(before(i));
    push_in_order(i);
  }
  std::erase(ids, kNone);
}

}  // namespace snug
