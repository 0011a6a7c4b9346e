#include "core/yaml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"

namespace snug {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::vector<YamlEntry> parsed(const std::string& text, const std::string& name = "c.yaml") {
  ErrorList errors;
  std::vector<YamlEntry> entries = parse_yaml(text, name, errors);
  errors.raise();
  return entries;
}

std::string error_of(const std::string& text) {
  try {
    parsed(text);
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Yaml, ReadsScalarsListsAndMapsWithTheirLines) {
  const auto entries = parsed(
      "# comment\nmodel: a/b\nrate: 2e-5  # peak\nnone: ~\nlist: [x, \"y, z\"]\n\nmap:\n  a: 1\n"
      "  b: {c: d}\n");
  ASSERT_EQ(entries.size(), 5U);
  EXPECT_EQ(entries[0].value.text, "a/b");
  EXPECT_EQ(entries[0].line, 2);
  EXPECT_EQ(entries[1].value.text, "2e-5");
  EXPECT_EQ(entries[2].value.kind, RawValue::Kind::null);
  EXPECT_EQ(entries[3].value.items, (std::vector<std::string>{"x", "y, z"}));
  EXPECT_EQ(entries[4].line, 7);
  EXPECT_EQ(entries[4].value.print(), "{a: 1, b.c: d}");
}

TEST(Yaml, ReadsJsonAndTheEmptyFile) {
  EXPECT_EQ(parsed("{\"seed\": 1, \"data\": [\"a\"]}", "c.json").size(), 2U);
  EXPECT_TRUE(parsed("").empty());
  EXPECT_TRUE(parsed("# nothing\n").empty());
}

TEST(Yaml, NamesFileAndLineOfWhatIsWrong) {
  EXPECT_THAT(error_of("a: 1\nb: [1, 2\nc: 3\n"), StartsWith("c.yaml:"));
  EXPECT_THAT(error_of("a: 1\n\tb: 2\n"), StartsWith("c.yaml:2: not valid YAML"));
  EXPECT_EQ(error_of("a: 1\nb: 2\na: 3\n"), "c.yaml:3: a is already set in line 1.");
  EXPECT_THAT(error_of("- a\n- b\n"), StartsWith("c.yaml:1: expected settings"));
  EXPECT_THAT(error_of("a: 1\n---\nb: 2\n"), HasSubstr("several YAML documents"));
  EXPECT_THAT(error_of("a: {b: {c: {d: {e: {f: {g: 1}}}}}}\n"), HasSubstr("nested too deeply"));
  EXPECT_THAT(error_of("a: *unknown\n"), StartsWith("c.yaml:1: not valid YAML"));
  ErrorList errors;
  EXPECT_TRUE(read_yaml("/no/such/file.yaml", errors).empty());
  EXPECT_THROW(errors.raise(), UserError);
}

TEST(Yaml, NamesAllThatIsWrong) {
  EXPECT_EQ(error_of("a: 1\na: 2\nb: {c: {d: {e: {f: {g: {h: 1}}}}}}\n[1]: 2\n"),
            "c.yaml:2: a is already set in line 1.\n"
            "c.yaml:3: 'c.d.e.f.g.' is nested too deeply.\n"
            "c.yaml:4: a key holds a list or a map, expected a plain value.");
}

TEST(Yaml, ShowsListsOfMapsInOneLine) {
  const auto entries = parsed("datasets:\n  - path: a.jsonl\n    type: [x, {y: ~}]\n  - plain\n");
  EXPECT_TRUE(entries[0].value.nested);
  EXPECT_EQ(entries[0].value.print(), "[{path: a.jsonl, type: [x, {y: null}]}, plain]");
  std::string doubling = "a: &a [x, x]\n";
  for (char name = 'b'; name < 'z'; ++name) {
    const auto before = static_cast<char>(name - 1);
    doubling += fmt::format("{}: &{} [*{}, *{}]\n", name, name, before, before);
  }
  EXPECT_LT(parsed(doubling).back().value.print().size(), 2000U);
}

/// yaml-cpp finds documents without end behind such a bracket.
TEST(Yaml, EndsAtABracketThatNothingOpened) {
  EXPECT_THAT(error_of(",a:}}} b\nc: [d]\n"), StartsWith("c.yaml:"));
  EXPECT_THAT(error_of("}"), StartsWith("c.yaml:"));
}

TEST(Yaml, QuotesSoThatTextComesBack) {
  for (const std::string text :
       {"plain", "",      "null", "~",     "a: b",        "a #b",
        "- x",   "-1e-5", "--",   "\"q\"", "back\\slash", "line\nbreak\ttab",
        "[x]",   "{x}",   "*a",   "&a",    "!t",          "ä ö",
        "a:",    ":a",    "x,y",  "\x01",  "'",           "%d",
        "@x",    "`x"}) {
    const auto entries = parsed("key: " + yaml_scalar(text) + "\n");
    ASSERT_EQ(entries.size(), 1U) << text;
    EXPECT_EQ(entries[0].value.kind, RawValue::Kind::scalar) << text;
    EXPECT_EQ(entries[0].value.text, text) << yaml_scalar(text);
  }
}

}  // namespace
}  // namespace snug
