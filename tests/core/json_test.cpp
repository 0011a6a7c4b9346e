#include "core/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "io/temporary_folder.h"

namespace snug {
namespace {

using testing::HasSubstr;
using namespace std::string_view_literals;

std::string error_of(std::string_view text) {
  return user_error_of([&] { parse_json(text, "f.json"); });
}

TEST(Json, TheWholeTextIsChecked) {
  EXPECT_EQ(parse_json(" {\"a\": [1]} \n", "f.json")["a"][0], 1);
  EXPECT_THAT(error_of("{\"a\": 1}\0"sv), HasSubstr("f.json: not valid JSON: byte 9 is NUL"));
  EXPECT_THAT(error_of("{\"a\": 1}\0{\"b\": 2}"sv), HasSubstr("byte 9 is NUL"));
  EXPECT_THAT(error_of("{\"a\0b\": 1}"sv), HasSubstr("byte 4 is NUL"));
  EXPECT_THAT(error_of("\0"sv), HasSubstr("byte 1 is NUL"));
  for (const std::string_view text : {"{} x", "{}{}", "{}]", "1 2", ""}) {
    EXPECT_THAT(error_of(text), HasSubstr("not valid JSON")) << text;
  }
}

TEST(Json, TwinsAndDeepNestingAreRefused) {
  EXPECT_THAT(error_of(R"({"a": {"b": 1, "b": 2}})"), HasSubstr("'b' occurs twice"));
  EXPECT_THAT(error_of(std::string(70, '[')), HasSubstr("nested deeper"));
}

}  // namespace
}  // namespace snug
