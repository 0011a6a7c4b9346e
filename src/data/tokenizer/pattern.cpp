#include "data/tokenizer/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>

#include "core/error.h"
#include "data/tokenizer/utf8.h"

namespace snug {
namespace {

template <auto free_function>
struct Free {
  template <class T>
  void operator()(T* handle) const {
    free_function(handle);
  }
};
using CodeHandle = std::unique_ptr<pcre2_code, Free<pcre2_code_free>>;
using CompileContext = std::unique_ptr<pcre2_compile_context, Free<pcre2_compile_context_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Free<pcre2_match_context_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Free<pcre2_match_data_free>>;
using JitStack = std::unique_ptr<pcre2_jit_stack, Free<pcre2_jit_stack_free>>;

constexpr size_t kJitStackFirst = size_t{32} << 10;
constexpr size_t kJitStackMost = size_t{1} << 20;

std::string message_of(int error) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(error, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

}  // namespace

struct MatchScratch::State {
  MatchData data{pcre2_match_data_create(1, nullptr)};
  MatchContext context{pcre2_match_context_create(nullptr)};
  JitStack stack{pcre2_jit_stack_create(kJitStackFirst, kJitStackMost, nullptr)};
};

MatchScratch::MatchScratch() : state_(std::make_unique<State>()) {
  if (!state_->data || !state_->context || !state_->stack) throw std::bad_alloc();
  pcre2_jit_stack_assign(state_->context.get(), nullptr, state_->stack.get());
}
MatchScratch::~MatchScratch() = default;

struct Pattern::Code {
  CodeHandle handle;
  std::string expression;
  std::string file;
};

Pattern::Pattern() = default;
Pattern::Pattern(Pattern&&) noexcept = default;
Pattern& Pattern::operator=(Pattern&&) noexcept = default;
Pattern::~Pattern() = default;

Pattern Pattern::literal(std::string text) {
  if (text.empty()) return regex("");
  Pattern pattern;
  pattern.literal_ = std::move(text);
  return pattern;
}

Pattern Pattern::regex(std::string_view expression) {
  const nlohmann::json none;
  return regex(expression, JsonView(none, "snug", std::string(expression)));
}

Pattern Pattern::regex(std::string_view expression, const JsonView& where) {
  const std::string spelled = pcre2_from_oniguruma(expression, where);
  const CompileContext context(pcre2_compile_context_create(nullptr));
  if (!context) throw std::bad_alloc();
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  CodeHandle handle(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(spelled.data()), spelled.size(),
                                  PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                                  &error, &offset, context.get()));
  if (!handle) {
    where.fail(fmt::format("is not a regular expression that PCRE2 reads: {} at byte {} of {}.",
                           message_of(error), offset, spelled));
  }
  // Where the system forbids generated code, PCRE2's interpreter matches the same.
  pcre2_jit_compile(handle.get(), PCRE2_JIT_COMPLETE);
  Pattern pattern;
  pattern.code_ =
      std::make_unique<Code>(Code{std::move(handle), std::string(expression), where.file()});
  return pattern;
}

Pattern Pattern::from_json(const JsonView& view) {
  if (const auto text = view.find("String")) return literal(text->text());
  const JsonView expression = view.at("Regex");
  return regex(expression.text(), expression);
}

std::optional<TextRange> Pattern::find(std::string_view text, size_t from,
                                       MatchScratch& scratch) const {
  if (!code_) {
    const size_t at = text.find(literal_, from);
    if (at == std::string_view::npos) return std::nullopt;
    return TextRange{at, at + literal_.size()};
  }
  auto& state = *scratch.state_;
  const auto match = [&](uint32_t options) {
    return pcre2_match(code_->handle.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                       from, PCRE2_NO_UTF_CHECK | options, state.data.get(), state.context.get());
  };
  int found = match(0);
  if (found == PCRE2_ERROR_JIT_STACKLIMIT) found = match(PCRE2_NO_JIT);
  if (found == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (found < 0) {
    user_error("{}: the expression '{}' cannot be matched in a text of {} bytes: {}.", code_->file,
               code_->expression, text.size(), message_of(found));
  }
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(state.data.get());
  return TextRange{ends[0], ends[1]};
}

void Pattern::find_all(std::string_view text, MatchScratch& scratch,
                       std::vector<TextRange>& matches) const {
  size_t from = 0;
  std::optional<size_t> last_end;
  while (from <= text.size()) {
    const auto match = find(text, from, scratch);
    if (!match) return;
    if (match->begin == match->end && last_end == match->end) {
      if (from == text.size()) return;
      from += utf8_char(text, from).size;
      continue;
    }
    matches.push_back(*match);
    from = match->end;
    last_end = match->end;
  }
}

}  // namespace snug
