#include "ir/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "core/error.h"
#include "ir/verify.h"

namespace snug {
namespace {

TEST(GraphText, ParsesAndPrintsTheSame) {
  const Graph graph = parse_graph(R"(graph g
facts differentiated typed
parameter head.weight bf16[8, 4] trainable decay uses=2 layer=3 tied=other.weight storage=weight:plain:head.weight bf16[8, 4] storage=master:plain:a:b f32[8, 4]
parameter norm.weight f32[4] ones uses=1
input %head.weight bf16[8, 4] weight run
input %norm.weight f32[4] weight run
input %x f32[8, 4] input
input %w f32[8, 4] weight run host layer=1
%norm = rms_norm(%x, %norm.weight) {eps=1e-06} : f32[8, 4] @ forward layer=2
%part = view(%norm) {offset=2, shape="8,2", row_stride=4} : f32[8, 2] base=%norm offset=2 stride=4 @ forward layer=2
%scaled = scale(%norm) {factor=2.0} : f32[8, 4] gradient step @ backward layer=2 copy_in
%lin = linear(%x, %x, _) : f32[8, 8] @ forward
output %scaled
output %part
)");
  const std::string printed = print_graph(graph);
  EXPECT_EQ(print_graph(parse_graph(printed)), printed);
  EXPECT_THAT(printed, testing::HasSubstr("{factor=2.0} : f32[8, 4] gradient step @ backward"));
  EXPECT_THAT(printed, testing::HasSubstr("base=%norm offset=2 stride=4"));
  EXPECT_THAT(printed, testing::HasSubstr("storage=master:plain:a:b f32[8, 4]"));
  EXPECT_EQ(graph.parameters[1].initial, Initial::ones);
  EXPECT_EQ(graph.nodes[2].lane, Lane::copy_in);
  EXPECT_EQ(graph.nodes[3].inputs[2], kNoValue);
}

std::string error_of(const std::string& text) {
  try {
    parse_graph(text);
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

TEST(GraphText, ErrorsNameTheLine) {
  EXPECT_THAT(error_of("graph g\ninput %x f33[2]"), testing::HasSubstr("line 2: expected a dtype"));
  EXPECT_THAT(error_of("%y = rms_norm(%x) : f32[2] @ forward"),
              testing::HasSubstr("a value that is defined above"));
  EXPECT_THAT(error_of("input %x f32[2] input\ninput %x f32[2] input"),
              testing::HasSubstr("a name that is not taken yet"));
  EXPECT_THAT(error_of("input %x f32[1, 2, 3, 4, 5]"), testing::HasSubstr("a shape"));
  EXPECT_THAT(error_of("%y = nothing() : f32[2] @ forward"), testing::HasSubstr("an op"));
}

std::string verdict(const std::string& text) {
  try {
    verify_graph(parse_graph(text));
  } catch (const InternalError& error) {
    return error.what();
  }
  return "legal";
}

TEST(Verifier, AcceptsALegalGraph) {
  EXPECT_EQ(verdict("input %a f32[4] input\n%b = scale(%a) {factor=2.0} : f32[4] @ forward\n"
                    "output %b"),
            "legal");
}

TEST(Verifier, RefusesTypesThatTheShapeRuleDoesNotGive) {
  EXPECT_THAT(verdict("input %a f32[4] input\n%b = scale(%a) {factor=2.0} : f32[5] @ forward"),
              testing::HasSubstr("the shape rule says f32[4]"));
}

TEST(Verifier, RefusesTooManyOperands) {
  EXPECT_THAT(verdict("input %a f32[4] input\n%b = exp(%a, %a) : f32[4] @ forward"),
              testing::HasSubstr("exp"));
}

constexpr const char* kCache =
    "input %c f32[8, 1, 2] kv_cache session\ninput %x f32[1, 1, 2] input\n"
    "input %p i32[] scalar run\n"
    "%c2 = cache_write(%c, %x, %p) : f32[8, 1, 2] kv_cache session base=%c @ forward\n";

TEST(Verifier, RefusesReadingAnOverwrittenState) {
  EXPECT_EQ(verdict(std::string(kCache) + "%d = copy(%c2) : f32[8, 1, 2] @ forward"), "legal");
  EXPECT_THAT(verdict(std::string(kCache) + "%d = copy(%c) : f32[8, 1, 2] @ forward"),
              testing::HasSubstr("after %c2 has overwritten it"));
}

TEST(Verifier, RefusesAVersionThatIsNone) {
  EXPECT_THAT(verdict("input %c f32[8, 1, 2] kv_cache session\ninput %x f32[1, 1, 2] input\n"
                      "input %p i32[] scalar run\n"
                      "%c2 = cache_write(%c, %x, %p) : f32[8, 1, 2] @ forward"),
              testing::HasSubstr("must be a version of %c"));
}

TEST(Verifier, RefusesViewsBeyondTheirBase) {
  EXPECT_THAT(verdict("input %a f32[4, 4]\n"
                      "%b = stop_gradient(%a) : f32[4, 4] base=%a offset=1 @ forward"),
              testing::HasSubstr("ends at element 17"));
}

TEST(Verifier, RefusesOperandsOfTwoSpaces) {
  EXPECT_THAT(verdict("input %a f32[4] input host\n"
                      "%b = scale(%a) {factor=2.0} : f32[4] @ forward"),
              testing::HasSubstr("in host"));
}

}  // namespace
}  // namespace snug
