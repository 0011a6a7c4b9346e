// Rows as tokens and labels.
#include <algorithm>

#include "core/error.h"
#include "data/dataset.h"
#include "data/token_offsets.h"

namespace snug {
namespace {

constexpr std::int32_t kIgnored = -100;

[[noreturn]] void refuse_part(const DataRow& row, TrainOn train_on, std::string_view part) {
  user_error("{}: train_on={} and the row ({}) has no {}.", row.place,
             train_on == TrainOn::assistant ? "assistant" : "completion", name_of(row.layout),
             part);
}

std::size_t common_prefix(std::string_view a, std::string_view b) {
  return static_cast<std::size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first -
                                  a.begin());
}

/// Encodes one row; the labels of a conversation are found turn by turn.
class Encoding {
 public:
  Encoding(const DataRow& row, const RowEncoder& encoder)
      : row_(row), encoder_(encoder), train_on_(encoder.rules.train_on) {}

  EncodedRow run() {
    std::visit([this](const auto& content) { encode(content); }, row_.content);
    check_ids();
    return std::move(encoded_);
  }

 private:
  const Tokenizer& tokenizer() const {
    if (encoder_.tokenizer == nullptr) {
      user_error("{}: the row is text and the model folder has no tokenizer.json.", row_.place);
    }
    return *encoder_.tokenizer;
  }
  std::vector<std::int32_t>& ids() { return encoded_.tokens.ids; }
  std::vector<std::int32_t>& labels() { return encoded_.tokens.labels; }

  void append_eos() {
    const TokenRules& rules = encoder_.rules;
    if (!rules.append_eos || rules.eos < 0) return;
    if (ids().empty() || ids().back() != rules.eos) ids().push_back(rules.eos);
  }

  void note_begin() {
    const std::int32_t bos = encoder_.rules.bos;
    encoded_.twice_begun = bos >= 0 && ids().size() > 1 && ids()[0] == bos && ids()[1] == bos;
  }

  void check_ids() {
    for (const std::int32_t id : ids()) {
      if (id >= 0 && id < encoder_.rules.vocab_size) continue;
      user_error("{}: token id {} is outside the model's vocabulary of {}.", row_.place, id,
                 encoder_.rules.vocab_size);
    }
  }

  void encode(const TextRow& text) {
    if (train_on_ == TrainOn::assistant) refuse_part(row_, train_on_, "assistant turn");
    if (train_on_ == TrainOn::completion) refuse_part(row_, train_on_, "completion");
    ids() = tokenizer().encode(text.text, true);
    append_eos();
    note_begin();
    labels() = ids();
    encoded_.document = text.document;
  }

  void encode(const CompletionRow& row) {
    if (train_on_ == TrainOn::assistant) refuse_part(row_, train_on_, "assistant turn");
    const std::vector<std::int32_t> prompt = tokenizer().encode(row.prompt, true);
    ids() = tokenizer().encode(row.prompt + row.completion, true);
    append_eos();
    note_begin();
    labels() = ids();
    const auto common = std::mismatch(prompt.begin(), prompt.end(), ids().begin(), ids().end());
    encoded_.moved_seam = common.first != prompt.end();
    if (train_on_ != TrainOn::all) {
      std::fill(labels().begin(), labels().begin() + (common.second - ids().begin()), kIgnored);
    }
  }

  void encode(const TokenRow& row) { encoded_.tokens = row; }

  void encode(const UntrainedRow&) {
    user_error(
        "{}: a row of layout {}; losses that compare answers are not in this version. To train on "
        "the good answers alone, write rows of prompt and completion.",
        row_.place, name_of(row_.layout));
  }

  void encode(const ChatRow& chat) {
    if (encoder_.chat == nullptr) {
      user_error(
          "{}: the row is messages and the model has no chat template. Name one: "
          "chat_template=chatml "
          "(llama3, mistral, gemma, alpaca), or a Jinja file.",
          row_.place);
    }
    choose_turns(chat);
    render(chat);
    ids() = tokenizer().encode(text_, false);
    note_begin();
    labels() = ids();
    const auto offsets = token_offsets(tokenizer(), ids(), text_);
    if (!all_but_) std::fill(labels().begin(), labels().end(), kIgnored);
    for (const auto& [begin, end] : spans_) {
      if (begin >= end) continue;
      const auto [first, last] = tokens_of_bytes(tokenizer(), ids(), text_, offsets, begin, end);
      for (std::size_t i = first; i < last; ++i) labels()[i] = all_but_ ? kIgnored : ids()[i];
    }
  }

  /// Which turns' spans are needed: the trained ones, or, where the rest is trained (all_but_),
  /// those that are not.
  void choose_turns(const ChatRow& chat) {
    const bool completion = chat.messages.back().completion;
    all_but_ = train_on_ == TrainOn::all || (train_on_ == TrainOn::whole && !completion);
    const bool by_part =
        completion && (train_on_ == TrainOn::automatic || train_on_ == TrainOn::whole ||
                       train_on_ == TrainOn::completion);
    of_completion_ = by_part && std::none_of(chat.messages.begin(), chat.messages.end(),
                                             [](const ChatMessage& m) { return m.weighted; });
    if (train_on_ == TrainOn::completion && !completion) {
      refuse_part(row_, train_on_, "completion");
    }
    std::size_t last = chat.messages.size();
    for (std::size_t i = 0; i < chat.messages.size(); ++i) {
      if (chat.messages[i].assistant) last = i;
    }
    if (last == chat.messages.size() && !all_but_ && !of_completion_) {
      refuse_part(row_, TrainOn::assistant, "assistant turn");
    }
    turns_.clear();
    for (std::size_t i = 0; i < chat.messages.size(); ++i) {
      const ChatMessage& message = chat.messages[i];
      const bool turn = message.assistant && (message.completion || !by_part);
      const bool chosen = train_on_ == TrainOn::last ? i == last : turn;
      const bool trained = message.weighted.value_or(all_but_ || chosen);
      if (trained != all_but_) turns_.push_back(i);
    }
  }

  void render(const ChatRow& chat) {
    const std::size_t count = chat.messages.size();
    std::vector<ChatPrefix> wanted = {{count, false}};
    if (of_completion_) {
      const auto first = std::find_if(chat.messages.begin(), chat.messages.end(),
                                      [](const ChatMessage& m) { return m.completion; });
      wanted.push_back({static_cast<std::size_t>(first - chat.messages.begin()), true});
    }
    const auto whole = encoder_.chat->render(chat, wanted, row_.place);
    text_ = whole.front().text;
    if (of_completion_) {
      const std::size_t begin = common_prefix(whole[1].text, text_);
      encoded_.moved_seam = begin < whole[1].text.size();
      spans_ = {{begin, text_.size()}};
    } else if (!take_generations(chat, whole.front())) {
      take_prefixes(chat);
    }
  }

  /// The template's own marks, where they are one for each assistant turn.
  bool take_generations(const ChatRow& chat, const RenderedChat& rendered) {
    std::vector<std::size_t> assistants;
    for (std::size_t i = 0; i < chat.messages.size(); ++i) {
      if (chat.messages[i].assistant) assistants.push_back(i);
    }
    const auto& marks = rendered.generations;
    if (turns_ == assistants && !marks.empty()) {
      spans_ = marks;
      return true;
    }
    if (marks.empty() || marks.size() != assistants.size()) return false;
    for (const std::size_t turn : turns_) {
      const auto at = std::find(assistants.begin(), assistants.end(), turn);
      if (at == assistants.end()) return false;
    }
    for (const std::size_t turn : turns_) {
      const auto at = std::find(assistants.begin(), assistants.end(), turn);
      spans_.push_back(marks[static_cast<std::size_t>(at - assistants.begin())]);
    }
    return true;
  }

  /// A turn is what follows the conversation before it (and the words that ask for an answer).
  void take_prefixes(const ChatRow& chat) {
    std::vector<ChatPrefix> wanted;
    for (const std::size_t turn : turns_) {
      wanted.push_back({turn, chat.messages[turn].assistant});
      wanted.push_back({turn + 1, false});
    }
    spans_.clear();
    if (wanted.empty()) return;
    const auto rendered = encoder_.chat->render(chat, wanted, row_.place);
    for (std::size_t k = 0; k < turns_.size(); ++k) {
      const std::string& before = rendered[2 * k].text;
      const std::string& with = rendered[2 * k + 1].text;
      if (!text_.starts_with(with)) {
        user_error(
            "{}: the template {} writes message {} otherwise once others follow it, so its tokens "
            "cannot be told from the rest. train_on=last trains the last turn; train_on=all all "
            "of it; or give a chat_template with generation tags.",
            row_.place, encoder_.chat->name(), turns_[k]);
      }
      spans_.emplace_back(common_prefix(before, with), with.size());
    }
  }

  const DataRow& row_;
  const RowEncoder& encoder_;
  TrainOn train_on_;
  EncodedRow encoded_;
  bool all_but_ = false;        // the spans are what is not trained
  bool of_completion_ = false;  // one span: what follows the prompt's messages
  std::vector<std::size_t> turns_;
  std::string text_;
  std::vector<std::pair<std::size_t, std::size_t>> spans_;
};

}  // namespace

EncodedRow encode_row(const DataRow& row, const RowEncoder& encoder) {
  return Encoding(row, encoder).run();
}

}  // namespace snug
