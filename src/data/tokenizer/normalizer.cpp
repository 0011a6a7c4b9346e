#include "data/tokenizer/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>

#include "core/error.h"
#include "data/tokenizer/utf8.h"

namespace snug {
namespace {

constexpr char32_t kFirstComposing = 0x300;  // below it every character is its own NFC

bool all_ascii(std::string_view text) {
  return std::ranges::all_of(text,
                             [](char byte) { return static_cast<unsigned char>(byte) < 0x80; });
}

// Nothing to do for NFC: every character is below U+0300 (lead bytes below 0xCC).
bool all_below_composing(std::string_view text) {
  static_assert(kFirstComposing == 0x300);
  return std::ranges::all_of(text,
                             [](char byte) { return static_cast<unsigned char>(byte) < 0xCC; });
}

// Characters that take part in normalisation but are younger than Unicode 9.0, the version that
// the `tokenizers` package normalises by: there they are inert. Up to Unicode 15.1.
constexpr std::array<std::array<char32_t, 2>, 48> kYounger{{
    {0x7FD, 0x7FD},     {0x898, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},
    {0xC3C, 0xC3C},     {0xD3B, 0xD3C},     {0xEBA, 0xEBA},     {0x1715, 0x1715},
    {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},   {0x32FF, 0x32FF},   {0xA7F2, 0xA7F4},
    {0xA82C, 0xA82C},   {0xAB69, 0xAB69},   {0x10781, 0x10785}, {0x10787, 0x107B0},
    {0x107B2, 0x107BA}, {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF},
    {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B},
    {0x1145E, 0x1145E}, {0x11839, 0x1183A}, {0x11930, 0x11930}, {0x11935, 0x11935},
    {0x11938, 0x11938}, {0x1193D, 0x1193E}, {0x11943, 0x11943}, {0x119E0, 0x119E0},
    {0x11A34, 0x11A34}, {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D42},
    {0x11D44, 0x11D45}, {0x11D97, 0x11D97}, {0x11F41, 0x11F42}, {0x16FF0, 0x16FF1},
    {0x1E030, 0x1E06D}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE},
    {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF}, {0x1F16C, 0x1F16C}, {0x1FBF0, 0x1FBF9},
}};

bool is_younger(char32_t code) {
  if (code < kYounger[0][0]) return false;
  const auto* range = std::ranges::lower_bound(
      kYounger, code, {}, [](const std::array<char32_t, 2>& r) { return r[1]; });
  return range != kYounger.end() && (*range)[0] <= code;
}

void append_form(std::string_view text, int options, std::string& out) {
  if (text.empty()) return;
  utf8proc_uint8_t* made = nullptr;
  const auto size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                 static_cast<utf8proc_ssize_t>(text.size()), &made,
                                 static_cast<utf8proc_option_t>(options));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(made, &std::free);
  check(size >= 0, "Unicode normalization of {} bytes: {}", text.size(),
        size < 0 ? utf8proc_errmsg(size) : "");
  out.append(reinterpret_cast<const char*>(made), static_cast<size_t>(size));
}

// Replaces every character by what `rewrite(code, out)` appends.
template <class Rewrite>
void rewrite_chars(std::string& text, Rewrite rewrite) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = utf8_char(text, at);
    rewrite(c.code, out);
    at += c.size;
  }
  text = std::move(out);
}

}  // namespace

Normalizer Normalizer::from_json(const JsonView& view) {
  Normalizer normalizer;
  normalizer.read(view);
  return normalizer;
}

void Normalizer::read(const JsonView& view) {
  const std::string type = view.at("type").text();
  if (type == "Sequence") {
    for (const JsonView& part : view.at("normalizers").elements()) read(part);
  } else if (type == "Prepend") {
    steps_.emplace_back(Prepend{view.at("prepend").text()});
  } else if (type == "Replace") {
    steps_.emplace_back(Replace{Pattern::from_json(view.at("pattern")), view.at("content").text()});
  } else if (type == "Lowercase") {
    steps_.emplace_back(Lowercase{});
  } else if (type == "Strip") {
    steps_.emplace_back(Strip{view.at("strip_left").boolean(), view.at("strip_right").boolean()});
  } else if (type == "NFC") {
    steps_.emplace_back(Form{UTF8PROC_STABLE | UTF8PROC_COMPOSE});
  } else if (type == "NFD") {
    steps_.emplace_back(Form{UTF8PROC_STABLE | UTF8PROC_DECOMPOSE});
  } else if (type == "NFKC") {
    steps_.emplace_back(Form{UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT});
  } else if (type == "NFKD") {
    steps_.emplace_back(Form{UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT});
  } else {
    view.fail(
        fmt::format("has the type '{}'; snug reads Sequence, Prepend, Replace, Lowercase, "
                    "Strip, NFC, NFD, NFKC and NFKD.",
                    type));
  }
}

void Normalizer::run(std::string& text, bool& at_origin, MatchScratch& scratch) const {
  for (const Step& step : steps_) {
    if (text.empty()) return;
    std::visit([&](const auto& s) { apply(s, text, at_origin, scratch); }, step);
  }
}

void Normalizer::apply(const Prepend& step, std::string& text, bool& /*at_origin*/,
                       MatchScratch& /*scratch*/) {
  text.insert(0, step.text);
}

void Normalizer::apply(const Replace& step, std::string& text, bool& at_origin,
                       MatchScratch& scratch) {
  std::vector<TextRange> matches;
  step.pattern.find_all(text, scratch, matches);
  if (matches.empty()) return;
  const auto [begin, end] = matches.front();
  const bool several = begin == 0 && end > utf8_char(text, 0).size;
  // The content stands for the last character it replaces.
  if (several || (begin == 0 && end > 0 && step.content.empty())) at_origin = false;
  std::string out;
  out.reserve(text.size() + matches.size() * step.content.size());
  size_t copied = 0;
  for (const TextRange& match : matches) {
    out.append(text, copied, match.begin - copied);
    out += step.content;
    copied = match.end;
  }
  out.append(text, copied);
  text = std::move(out);
}

// Unicode's simple mapping of each character; U+0130 alone becomes two.
void Normalizer::apply(const Lowercase& /*step*/, std::string& text, bool& /*at_origin*/,
                       MatchScratch& /*scratch*/) {
  rewrite_chars(text, [](char32_t code, std::string& out) {
    append_utf8(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code))));
    if (code == 0x130) append_utf8(out, 0x307);
  });
}

void Normalizer::apply(const Strip& step, std::string& text, bool& at_origin,
                       MatchScratch& /*scratch*/) {
  size_t begin = 0;
  size_t end = text.size();
  while (step.left && begin < end) {
    const Utf8Char c = utf8_char(text, begin);
    if (!is_white_space(c.code)) break;
    begin += c.size;
  }
  while (step.right && end > begin) {
    const Utf8Char c = utf8_char_before(text, end);
    if (!is_white_space(c.code)) break;
    end -= c.size;
  }
  if (begin > 0) at_origin = false;
  text = text.substr(begin, end - begin);
}

void Normalizer::apply(const Form& step, std::string& text, bool& /*at_origin*/,
                       MatchScratch& /*scratch*/) {
  const bool composes = (step.options & UTF8PROC_COMPOSE) != 0;
  const bool compatible = (step.options & UTF8PROC_COMPAT) != 0;
  if (composes && !compatible ? all_below_composing(text) : all_ascii(text)) return;
  std::string out;
  out.reserve(text.size());
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = utf8_char(text, at);
    if (is_younger(c.code)) {
      append_form(std::string_view(text).substr(begin, at - begin), step.options, out);
      out.append(text, at, c.size);
      begin = at + c.size;
    }
    at += c.size;
  }
  append_form(std::string_view(text).substr(begin), step.options, out);
  text = std::move(out);
}

}  // namespace snug
