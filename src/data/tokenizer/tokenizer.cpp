#include "data/tokenizer/tokenizer.h"

#include <algorithm>
#include <fstream>
#include <mutex>

#include "core/error.h"
#include "core/json.h"
#include "data/tokenizer/added_tokens.h"
#include "data/tokenizer/bpe.h"
#include "data/tokenizer/decoder.h"
#include "data/tokenizer/json_view.h"
#include "data/tokenizer/normalizer.h"
#include "data/tokenizer/post_processor.h"
#include "data/tokenizer/pre_tokenizer.h"
#include "data/tokenizer/utf8.h"

namespace snug {
namespace {

/// What one call of encode works with.
struct EncodeScratch {
  PreTokenizer::Scratch pre_tokenizer;
  Bpe::Scratch bpe;
};

/// Scratches that no call uses now: as many exist as calls ran at once, and their caches stay warm.
class ScratchPool {
 public:
  class Lease {
   public:
    explicit Lease(ScratchPool& pool) : pool_(pool), scratch_(pool.take()) {}
    ~Lease() { pool_.give_back(std::move(scratch_)); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    EncodeScratch& operator*() const { return *scratch_; }

   private:
    ScratchPool& pool_;
    std::unique_ptr<EncodeScratch> scratch_;
  };

 private:
  std::unique_ptr<EncodeScratch> take() {
    {
      const std::lock_guard lock(mutex_);
      if (!idle_.empty()) {
        auto scratch = std::move(idle_.back());
        idle_.pop_back();
        return scratch;
      }
    }
    return std::make_unique<EncodeScratch>();
  }

  void give_back(std::unique_ptr<EncodeScratch> scratch) {
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(scratch));
  }

  std::mutex mutex_;
  std::vector<std::unique_ptr<EncodeScratch>> idle_;
};

Normalizer read_normalizer(const JsonView& file) {
  const auto part = file.find("normalizer");
  return part ? Normalizer::from_json(*part) : Normalizer();
}

PreTokenizer read_pre_tokenizer(const JsonView& file) {
  const auto part = file.find("pre_tokenizer");
  return part ? PreTokenizer::from_json(*part) : PreTokenizer();
}

AddedTokens read_added_tokens(const JsonView& file, const Bpe& model,
                              const Normalizer& normalizer) {
  const auto part = file.find("added_tokens");
  return part ? AddedTokens::from_json(*part, model, normalizer) : AddedTokens();
}

TokenDecoder read_decoder(const JsonView& file) {
  const auto part = file.find("decoder");
  return part ? TokenDecoder::from_json(*part) : TokenDecoder();
}

}  // namespace

struct Tokenizer::State {
  explicit State(const JsonView& file)
      : normalizer(read_normalizer(file)),
        pre_tokenizer(read_pre_tokenizer(file)),
        bpe(file.at("model"), pre_tokenizer.byte_level()),
        added(read_added_tokens(file, bpe, normalizer)),
        decoder(read_decoder(file)),
        id_end(bpe.id_end()) {
    for (const AddedToken& token : added.all()) id_end = std::max(id_end, int64_t{token.id} + 1);
    special.resize(static_cast<size_t>(id_end));
    for (const AddedToken& token : added.all()) mark_special(token);
    if (const auto part = file.find("post_processor")) {
      post_processor = PostProcessor::from_json(*part, id_end);
    }
  }

  /// Special is every id whose text, as it is decoded, is a special token's content.
  void mark_special(const AddedToken& token) {
    if (!token.special) return;
    const auto mark = [&](int32_t id) {
      if (text_of(id) == token.content) special[static_cast<size_t>(id)] = true;
    };
    mark(token.id);
    if (const auto id = bpe.id_of(token.content)) mark(*id);
  }

  /// The text that decoding an id begins with.
  std::string_view text_of(int32_t id) const {
    const AddedToken* token = added.find(id);
    return token ? std::string_view(token->matched) : bpe.text_of(id);
  }

  void encode_plain(std::string_view text, EncodeScratch& scratch, std::vector<int32_t>& ids) const;
  void encode_normalized(std::string_view text, bool at_origin, EncodeScratch& scratch,
                         std::vector<int32_t>& ids) const;

  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  Bpe bpe;
  AddedTokens added;
  TokenDecoder decoder;
  PostProcessor post_processor;
  int64_t id_end;
  std::vector<bool> special;  // by id
  mutable ScratchPool pool;
};

Tokenizer::Tokenizer(std::unique_ptr<const State> state) : state_(std::move(state)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::from_file(const std::filesystem::path& tokenizer_json) {
  std::ifstream file(tokenizer_json, std::ios::binary);
  std::string text;
  if (file && !std::filesystem::is_directory(tokenizer_json)) {
    text.assign(std::istreambuf_iterator<char>(file), {});
  }
  if (!file || text.empty()) {
    user_error("{}: cannot be read or is empty. A model folder needs its tokenizer.json.",
               tokenizer_json.string());
  }
  return from_text(text, tokenizer_json.string());
}

Tokenizer Tokenizer::from_text(std::string_view json, const std::string& name) {
  const nlohmann::json document = parse_json(json, name);
  return Tokenizer(std::make_unique<const State>(JsonView(document, name)));
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  if (text.size() > INT32_MAX) {
    user_error("a text of {} bytes is too long for one call of the tokenizer (at most 2 GiB).",
               text.size());
  }
  std::string repaired;
  if (!is_valid_utf8(text)) {
    repaired = replace_invalid_utf8(text);
    text = repaired;
  }
  const ScratchPool::Lease scratch(state_->pool);
  std::vector<int32_t> ids;
  state_->encode_plain(text, *scratch, ids);
  return state_->post_processor.run(std::move(ids), add_special_tokens);
}

void Tokenizer::State::encode_plain(std::string_view text, EncodeScratch& scratch,
                                    std::vector<int32_t>& ids) const {
  MatchScratch& match = scratch.pre_tokenizer.match;
  added.split_raw(text, match, [&](std::string_view part, const AddedToken* token) {
    if (token) return ids.push_back(token->id);
    bool at_origin = part.data() == text.data();
    if (normalizer.empty()) return encode_normalized(part, at_origin, scratch, ids);
    std::string rewritten(part);
    normalizer.run(rewritten, at_origin, match);
    encode_normalized(rewritten, at_origin, scratch, ids);
  });
}

void Tokenizer::State::encode_normalized(std::string_view text, bool at_origin,
                                         EncodeScratch& scratch, std::vector<int32_t>& ids) const {
  const auto encode_piece = [&](std::string_view piece) { bpe.encode(piece, scratch.bpe, ids); };
  added.split_normalized(text, scratch.pre_tokenizer.match,
                         [&](std::string_view part, const AddedToken* token) {
                           if (token) return ids.push_back(token->id);
                           const bool first = at_origin && part.data() == text.data();
                           pre_tokenizer.run(part, first, scratch.pre_tokenizer, encode_piece);
                         });
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  StreamDecoder stream(*this, skip_special_tokens);
  std::string text;
  for (const int32_t id : ids) text += stream.push(id);
  return text + stream.finish();
}

std::optional<int32_t> Tokenizer::token_id(std::string_view token) const {
  if (const auto id = state_->added.id_of(token)) return id;
  return state_->bpe.id_of(token);
}

std::string_view Tokenizer::token_text(int32_t id) const {
  const AddedToken* token = state_->added.find(id);
  return token ? std::string_view(token->content) : state_->bpe.text_of(id);
}

bool Tokenizer::is_special(int32_t id) const {
  return id >= 0 && id < state_->id_end && state_->special[static_cast<size_t>(id)];
}

int64_t Tokenizer::vocab_size() const { return state_->id_end; }

struct StreamDecoder::State {
  const Tokenizer::State& tokenizer;
  bool skip_special_tokens;
  DecodeChain chain;
};

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens)
    : state_(std::make_unique<State>(*tokenizer.state_, skip_special_tokens,
                                     tokenizer.state_->decoder.start())) {}
StreamDecoder::~StreamDecoder() = default;
StreamDecoder::StreamDecoder(StreamDecoder&&) noexcept = default;

std::string StreamDecoder::push(int32_t id) {
  const Tokenizer::State& tokenizer = state_->tokenizer;
  if (id < 0 || id >= tokenizer.id_end) return {};
  if (state_->skip_special_tokens && tokenizer.special[static_cast<size_t>(id)]) return {};
  const std::string_view text = tokenizer.text_of(id);
  if (text.empty()) return {};
  state_->chain.push(text);
  return state_->chain.take();
}

std::string StreamDecoder::finish() {
  state_->chain.finish();
  return state_->chain.take();
}

}  // namespace snug
