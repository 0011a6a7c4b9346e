#include "data/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "core/error.h"
#include "data/tokenizer/byte_alphabet.h"
#include "data/tokenizer/pattern.h"
#include "data/tokenizer/pre_tokenizer.h"
#include "data/tokenizer/special_tokens.h"
#include "data/tokenizer/utf8.h"

namespace snug {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using Ids = std::vector<int32_t>;

// Words of a, b and c that merge: ab is 3, abc is 4; 5 is no token.
json letters() {
  return json::parse(R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3,
      "abc": 4, " ": 6}, "merges": [["a", "b"], ["ab", "c"]]}, "added_tokens": []})");
}

// The 256 bytes at their own ids; "ab" is 256.
json bytes() {
  json file = json::parse(R"({"model": {"type": "BPE", "vocab": {}, "merges": [["a", "b"]]},
      "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
      "decoder": {"type": "ByteLevel"}})");
  for (int byte = 0; byte < 256; ++byte) {
    std::string spelled;
    spell_bytes(std::string(1, static_cast<char>(byte)), spelled);
    file["model"]["vocab"][spelled] = byte;
  }
  file["model"]["vocab"]["ab"] = 256;
  return file;
}

// Llama 2's shape: bytes at 3 to 258, then the metaspace, letters and two words.
json sentencepiece() {
  json file = json::parse(R"({"model": {"type": "BPE", "unk_token": "<unk>", "byte_fallback": true,
      "fuse_unk": true, "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2},
      "merges": ["h i", "▁ hi"]}, "added_tokens": [{"id": 1, "content": "<s>", "special": true}],
      "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
      "post_processor": {"type": "TemplateProcessing", "single": [
        {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
      "decoder": {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
        {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}})");
  json& vocabulary = file["model"]["vocab"];
  for (int byte = 0; byte < 256; ++byte) vocabulary[fmt::format("<0x{:02X}>", byte)] = byte + 3;
  int id = 259;
  for (const char* token : {"▁", "h", "i", "hi", "▁hi"}) vocabulary[token] = id++;
  return file;
}

Tokenizer made(const json& file) { return Tokenizer::from_text(file.dump(), "tokenizer.json"); }

std::string error_of(const std::string& text) {
  try {
    Tokenizer::from_text(text, "tokenizer.json");
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}
std::string error_of(const json& file) { return error_of(file.dump()); }

Ids piece_ids(const json& pre_tokenizer, std::string_view text) {
  json file = letters();
  file["pre_tokenizer"] = pre_tokenizer;
  return made(file).encode(text, true);
}

TEST(Tokenizer, MergesByRankAndLeftmostFirst) {
  const Tokenizer tokenizer = made(letters());
  EXPECT_THAT(tokenizer.encode("abc", false), ElementsAre(4));
  EXPECT_THAT(tokenizer.encode("aabcb", false), ElementsAre(0, 4, 1));
  EXPECT_EQ(tokenizer.vocab_size(), 7);
  EXPECT_EQ(tokenizer.token_id("ab"), 3);
  EXPECT_FALSE(tokenizer.token_id("x"));
  EXPECT_EQ(tokenizer.token_text(4), "abc");
  EXPECT_EQ(tokenizer.token_text(5), "");

  json file = letters();
  file["model"]["vocab"] = {{"a", 0}, {"aa", 1}};
  file["model"]["merges"] = json::parse(R"([["a", "a"]])");
  EXPECT_THAT(made(file).encode("aaa", false), ElementsAre(1, 0));
}

TEST(Tokenizer, LongAndShortPiecesMergeAlike) {
  const Tokenizer tokenizer = made(letters());
  std::string text;
  Ids expected;
  for (int i = 0; i < 500; ++i) {
    text += "aabcb ";
    expected.insert(expected.end(), {0, 4, 1, 6});
  }
  EXPECT_EQ(tokenizer.encode(text, false), expected);

  // Without a place to cut: one run of joined letters goes through the heap.
  json file = letters();
  file["model"]["merges"] = json::parse(R"([["a", "b"], ["ab", "c"], ["c", "a"]])");
  file["model"]["vocab"]["ca"] = 5;
  const Tokenizer joined = made(file);
  std::string run;
  for (int i = 0; i < 300; ++i) run += "abc";
  EXPECT_EQ(joined.encode(run, false), Ids(300, 4));
  EXPECT_EQ(joined.encode("abcabc", false), Ids(2, 4));
}

TEST(Tokenizer, IgnoreMergesTakesAWholePieceFirst) {
  json file = letters();
  file["model"]["vocab"]["ba"] = 5;
  EXPECT_THAT(made(file).encode("ba", false), ElementsAre(1, 0));
  file["model"]["ignore_merges"] = true;
  EXPECT_THAT(made(file).encode("ba", false), ElementsAre(5));
}

TEST(Tokenizer, UnknownCharacters) {
  json file = letters();
  EXPECT_THAT(made(file).encode("axyb", false), ElementsAre(3)) << "unknown characters vanish";
  file["model"]["unk_token"] = "c";
  EXPECT_THAT(made(file).encode("axyb", false), ElementsAre(0, 2, 2, 1));
  file["model"]["fuse_unk"] = true;
  EXPECT_THAT(made(file).encode("axyb", false), ElementsAre(0, 2, 1));
  file["model"]["unk_token"] = "<unk>";
  const Tokenizer tokenizer = made(file);
  EXPECT_THAT(tokenizer.encode("ab", false), ElementsAre(3));
  EXPECT_THROW(tokenizer.encode("x", false), UserError);
}

TEST(Tokenizer, ByteLevelRoundTrips) {
  const Tokenizer tokenizer = made(bytes());
  EXPECT_THAT(tokenizer.encode("ab é", false), ElementsAre(256, ' ', 0xC3, 0xA9));
  const std::string text("a\0\x7f ab's 1,000 \xF0\x9F\x98\x80\n\n", 21);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text, true), true), text);
}

TEST(Tokenizer, InvalidUtf8CountsAsReplacementCharacters) {
  const Tokenizer tokenizer = made(bytes());
  EXPECT_EQ(tokenizer.encode("a\xE2\x82z\xED\xA0\x80", false),
            tokenizer.encode("a\uFFFDz\uFFFD\uFFFD\uFFFD", false));
  EXPECT_EQ(tokenizer.decode(Ids{'a', 0xE2, 0x82}, false), "a\uFFFD");
}

TEST(Tokenizer, ByteFallbackAndTemplate) {
  const Tokenizer tokenizer = made(sentencepiece());
  EXPECT_THAT(tokenizer.encode("hi hi", true), ElementsAre(1, 263, 263));
  EXPECT_THAT(tokenizer.encode("hié", false), ElementsAre(263, 0xC3 + 3, 0xA9 + 3));
  EXPECT_THAT(tokenizer.encode("", true), ElementsAre(1));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("hi é hi", true), true), "hi é hi");
  EXPECT_EQ(tokenizer.decode(Ids{1, 263}, false), "<s> hi");
  EXPECT_EQ(tokenizer.decode(Ids{263, 0xC3 + 3, 262}, true), "hi\uFFFDhi");
  EXPECT_TRUE(tokenizer.is_special(1));
  EXPECT_FALSE(tokenizer.is_special(2));
}

TEST(Tokenizer, AddedTokensAreCutOutFirst) {
  json file = letters();
  const auto token = [](int id, const char* content, json more) {
    more["id"] = id;
    more["content"] = content;
    return more;
  };
  // The next free id is the number of tokens in the vocabulary.
  file["model"]["vocab"].erase(" ");
  file["added_tokens"] = {token(5, "cab", {}), token(6, "ca", {}),
                          token(7, "<l>", {{"lstrip", true}}),
                          token(8, "<w>", {{"single_word", true}, {"special", true}})};
  const Tokenizer tokenizer = made(file);
  EXPECT_EQ(tokenizer.vocab_size(), 9);
  EXPECT_THAT(tokenizer.encode("bcabca", false), ElementsAre(1, 5, 6)) << "leftmost, then longest";
  EXPECT_THAT(tokenizer.encode("a \t<l>b", false), ElementsAre(0, 7, 1));
  EXPECT_THAT(tokenizer.encode("a <w> b", false), ElementsAre(0, 8, 1));
  EXPECT_THAT(tokenizer.encode("a<w>", false), ElementsAre(0));
  EXPECT_EQ(tokenizer.decode(Ids{0, 8, 5, 99, -1}, true), "a cab");
}

TEST(Tokenizer, NormalizedAddedTokensAreFoundInNormalisedText) {
  json file = letters();
  file["normalizer"] = {{"type", "Lowercase"}};
  file["model"]["vocab"].erase(" ");
  file["added_tokens"] = {{{"id", 5}, {"content", "CC"}, {"normalized", true}}};
  EXPECT_THAT(made(file).encode("ACcB", false), ElementsAre(0, 5, 1));
  file["added_tokens"][0]["normalized"] = false;
  EXPECT_THAT(made(file).encode("ACcB CC", false), ElementsAre(0, 2, 2, 1, 5));
}

TEST(Tokenizer, MetaspaceSchemes) {
  const auto pieces = [](const char* scheme, std::string_view text) {
    json file = letters();
    file["model"]["vocab"] = {{"_", 0}, {"a", 1}, {"_a", 2}, {"aa", 3}};
    file["model"]["merges"] = json::parse(R"([["_", "a"], ["a", "a"]])");
    file["added_tokens"] = {{{"id", 4}, {"content", "<x>"}}};
    file["pre_tokenizer"] = {
        {"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", scheme}};
    return made(file).encode(text, false);
  };
  EXPECT_THAT(pieces("always", "a<x>a"), ElementsAre(2, 4, 2));
  EXPECT_THAT(pieces("first", "a<x>a"), ElementsAre(2, 4, 1));
  EXPECT_THAT(pieces("never", "a<x>a"), ElementsAre(1, 4, 1));
  EXPECT_THAT(pieces("always", " a a"), ElementsAre(2, 2)) << "no second mark before a space";
}

TEST(Tokenizer, SplitBehaviors) {
  const std::vector<TextRange> dashes = {{3, 4}, {9, 10}, {10, 11}};  // the-final--countdown
  const auto cut = [&](SplitBehavior behavior, bool invert) {
    std::vector<TextRange> ranges;
    split_pieces(20, dashes, behavior, invert, ranges);
    std::vector<std::string> pieces;
    for (const auto [begin, end] : ranges) {
      pieces.push_back(std::string("the-final--countdown").substr(begin, end - begin));
    }
    return pieces;
  };
  EXPECT_THAT(cut(SplitBehavior::removed, false), ElementsAre("the", "final", "countdown"));
  EXPECT_THAT(cut(SplitBehavior::removed, true), ElementsAre("-", "-", "-"));
  EXPECT_THAT(cut(SplitBehavior::isolated, false),
              ElementsAre("the", "-", "final", "-", "-", "countdown"));
  EXPECT_THAT(cut(SplitBehavior::merged_with_previous, false),
              ElementsAre("the-", "final-", "-", "countdown"));
  EXPECT_THAT(cut(SplitBehavior::merged_with_next, false),
              ElementsAre("the", "-final", "-", "-countdown"));
  EXPECT_THAT(cut(SplitBehavior::contiguous, false),
              ElementsAre("the", "-", "final", "--", "countdown"));
  EXPECT_THAT(piece_ids({{"type", "Split"},
                         {"pattern", {{"String", "b"}}},
                         {"behavior", "Isolated"},
                         {"invert", false}},
                        "abc"),
              ElementsAre(0, 1, 2));
}

TEST(Tokenizer, StreamEqualsDecodeAndHoldsWholeCharacters) {
  const Tokenizer tokenizer = made(bytes());
  const Ids ids = {'x', 0xF0, 0x9F, 0x98, 0x80, 0xE2, 0x82, 'y', 0xC3};
  StreamDecoder stream(tokenizer, true);
  std::vector<std::string> parts;
  for (const int32_t id : ids) parts.push_back(stream.push(id));
  parts.push_back(stream.finish());
  EXPECT_THAT(parts, ElementsAre("x", "", "", "", "😀", "", "", "\uFFFDy", "", "\uFFFD"));
  EXPECT_EQ(tokenizer.decode(ids, true), "x😀\uFFFDy\uFFFD");

  const Tokenizer fallback = made(sentencepiece());
  StreamDecoder second(fallback, true);
  parts.clear();
  for (const int32_t id : {263, 0xC3 + 3, 0xA9 + 3, 263}) parts.push_back(second.push(id));
  parts.push_back(second.finish());
  EXPECT_THAT(parts, ElementsAre("hi", "", "", "é hi", ""));
}

TEST(Tokenizer, ThreadsShareOneTokenizer) {
  const Tokenizer tokenizer = made(bytes());
  std::vector<std::string> texts;
  std::vector<Ids> expected;
  for (int i = 0; i < 200; ++i) {
    texts.push_back(fmt::format("ab {} abab é{}", i * 7919, i));
    expected.push_back(tokenizer.encode(texts.back(), true));
  }
  std::vector<int> wrong(4);
  std::vector<std::jthread> threads;
  for (int& count : wrong) {
    threads.emplace_back([&] {
      for (size_t i = 0; i < texts.size(); ++i) {
        count += tokenizer.encode(texts[i], true) == expected[i] ? 0 : 1;
      }
    });
  }
  threads.clear();
  EXPECT_THAT(wrong, testing::Each(0));
}

TEST(TokenizerErrors, NameTheFileAndTheKey) {
  EXPECT_THAT(error_of(std::string("{")), HasSubstr("tokenizer.json: not valid JSON"));
  EXPECT_THAT(error_of(std::string("[]")), HasSubstr("'the file' is a list, expected an object"));
  EXPECT_EQ(error_of(std::string("{}")),
            "tokenizer.json: 'model' is missing. Is the file complete?");

  const auto with = [](const char* pointer, const json& value) {
    json file = letters();
    file[json::json_pointer(pointer)] = value;
    return error_of(file);
  };
  EXPECT_THAT(with("/model/type", "Unigram"), HasSubstr("'model.type' is 'Unigram'"));
  EXPECT_THAT(with("/model/type", "WordPiece"), HasSubstr("'model.type' is 'WordPiece'"));
  EXPECT_THAT(with("/model/vocab", nullptr), HasSubstr("'model.vocab' is missing"));
  EXPECT_THAT(with("/model/vocab", json::object()), HasSubstr("'model.vocab' is empty"));
  EXPECT_THAT(with("/model/vocab/a", -1),
              HasSubstr("'model.vocab.a' is -1, expected a whole number"));
  EXPECT_THAT(with("/model/vocab/a", 1e12), HasSubstr("'model.vocab.a' is 1000000000000.0"));
  EXPECT_THAT(with("/model/vocab/a", uint64_t{1} << 40), HasSubstr("'model.vocab.a'"));
  EXPECT_THAT(with("/model/vocab/a", "x"), HasSubstr("'model.vocab.a' is text"));
  EXPECT_THAT(with("/model/vocab/a", 1), HasSubstr("gives the id 1 to both 'a' and 'b'"));
  EXPECT_THAT(with("/model/merges", nullptr), HasSubstr("'model.merges' is missing"));
  EXPECT_THAT(with("/model/merges", 3), HasSubstr("'model.merges' is not a list"));
  EXPECT_THAT(with("/model/merges/1", {"a", "z"}),
              HasSubstr("[1] merges 'a' and 'z', but 'z' is not"));
  EXPECT_THAT(with("/model/merges/1", {"b", "a"}), HasSubstr("but 'ba' is not in 'model.vocab'"));
  EXPECT_THAT(with("/model/merges/1", "a b c"), HasSubstr("[1] is 'a b c'"));
  EXPECT_THAT(with("/model/merges/1", 7), HasSubstr("[1] is a number, expected two tokens"));
  EXPECT_THAT(with("/model/dropout", 0.1), HasSubstr("'model.dropout' makes tokens random"));
  EXPECT_THAT(with("/model/end_of_word_suffix", "</w>"), HasSubstr("'model.end_of_word_suffix'"));
  EXPECT_THAT(with("/added_tokens/0", {{"id", 9}, {"content", "x"}}),
              HasSubstr("'added_tokens[0]' gives 'x' the id 9, but it is 6"));
  EXPECT_THAT(with("/added_tokens/0", {{"content", "x"}}),
              HasSubstr("'added_tokens[0].id' is missing"));
  EXPECT_THAT(with("/normalizer", {{"type", "Nmt"}}), HasSubstr("'normalizer' has the type 'Nmt'"));
  EXPECT_THAT(with("/pre_tokenizer", {{"type", "BertPreTokenizer"}}),
              HasSubstr("'pre_tokenizer' has the type 'BertPreTokenizer'"));
  EXPECT_THAT(with("/decoder", {{"type", "CTC"}}), HasSubstr("'decoder' has the type 'CTC'"));
  EXPECT_THAT(with("/post_processor", {{"type", "BertProcessing"}}),
              HasSubstr("'post_processor' has the type 'BertProcessing'"));
  EXPECT_THAT(with("/pre_tokenizer", {{"type", "Split"},
                                      {"pattern", {{"Regex", "(a"}}},
                                      {"behavior", "Isolated"},
                                      {"invert", false}}),
              HasSubstr("'pre_tokenizer.pattern.Regex' is not a regular expression"));

  json file = sentencepiece();
  file["post_processor"]["special_tokens"]["<s>"]["ids"] = {99999};
  EXPECT_THAT(error_of(file), HasSubstr("'post_processor.special_tokens.<s>.ids[0]' is 99999"));
  file["post_processor"]["special_tokens"] = json::object();
  EXPECT_THAT(error_of(file), HasSubstr("names '<s>', which is not in 'special_tokens'"));
  EXPECT_THROW(Tokenizer::from_file("no/such/tokenizer.json"), UserError);
}

// A file cut off anywhere, or with one byte changed, is read or refused, never more.
TEST(TokenizerErrors, DamagedFilesDoNotCrash) {
  const std::string whole = sentencepiece().dump();
  int refused = 0;
  for (size_t size = 0; size < whole.size(); size += 97) {
    refused += error_of(whole.substr(0, size)) == "no error" ? 0 : 1;
  }
  EXPECT_EQ(refused, static_cast<int>((whole.size() + 96) / 97));
  for (size_t at = 0; at < whole.size(); at += 13) {
    std::string damaged = whole;
    damaged[at] = "0\"{}[]x-"[at % 8];
    error_of(damaged);
  }
}

TEST(Oniguruma, IsSpelledForPcre2) {
  const json none;
  const JsonView where(none, "f", "k");
  EXPECT_EQ(pcre2_from_oniguruma(R"(\p{L}\d[^\r\n]?+(?!x)\\s\u00e9)", where),
            R"(\p{L}\d[^\r\n]?+(?!x)\\s\x{00e9})");
  EXPECT_EQ(pcre2_from_oniguruma("(ab|c){1,3}+d{,2}e{2,}f{x}", where),
            R"((?:(ab|c){1,3})+d{0,2}e{2,}f\{x})");
  EXPECT_EQ(pcre2_from_oniguruma(R"(\h[\h])", where), "[0-9A-Fa-f][0-9A-Fa-f]");
  for (const char* refused : {"[a[b]]", "[a&&b]", R"([\W])"}) {
    EXPECT_THROW(pcre2_from_oniguruma(refused, where), UserError) << refused;
  }
  for (const char* odd : {"\\", "[", "[^", "(", ")", "{", "{1", "a{1}", "[[:", "\\p{", "\\u12"}) {
    EXPECT_NO_THROW(pcre2_from_oniguruma(odd, where)) << odd;
  }
}

TEST(Utf8, CompletePrefix) {
  EXPECT_EQ(complete_utf8_prefix("abc"), 3U);
  EXPECT_EQ(complete_utf8_prefix("a\xF0\x9F\x98"), 1U);
  EXPECT_EQ(complete_utf8_prefix("a\xF0\x9F\x98\x80"), 5U);
  EXPECT_EQ(complete_utf8_prefix("a\xC3"), 1U);
  EXPECT_EQ(complete_utf8_prefix("a\x80"), 2U) << "cannot become a character";
  EXPECT_EQ(complete_utf8_prefix(""), 0U);
}

TEST(SpecialTokens, AreReadFromBothFiles) {
  const auto folder = std::filesystem::path(testing::TempDir()) / "special_tokens";
  std::filesystem::create_directories(folder);
  const auto write = [&](const char* name, std::string_view text) {
    std::ofstream(folder / name) << text;
  };
  EXPECT_FALSE(read_special_tokens(folder / "absent").eos);
  write("tokenizer_config.json", R"({"eos_token": {"content": "<e>", "lstrip": false},
      "pad_token": null, "bos_token": "<b>", "model_max_length": 1e30})");
  write("special_tokens_map.json", R"({"eos_token": "<other>", "pad_token": "<p>"})");
  const SpecialTokens tokens = read_special_tokens(folder);
  EXPECT_EQ(tokens.eos, "<e>");
  EXPECT_EQ(tokens.bos, "<b>");
  EXPECT_EQ(tokens.pad, "<p>");
  EXPECT_FALSE(tokens.unk);
  EXPECT_FALSE(tokens.model_max_length);
  write("tokenizer_config.json", R"({"eos_token": 3})");
  EXPECT_THROW(read_special_tokens(folder), UserError);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace snug
