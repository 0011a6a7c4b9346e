#include "cli/demo_task.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "cli/demo_model.h"
#include "data/tokenizer/tokenizer.h"

namespace snug {
namespace {

constexpr DemoSizes kSizes{.train = 300, .evaluation = 20, .held_out = 30};

TEST(DemoTask, AnswersAreTheSortedLetters) {
  const DemoQuestion question{"banana"};
  EXPECT_EQ(question.prompt(), "sort banana =");
  EXPECT_EQ(question.completion(), " aaabnn");
  EXPECT_TRUE(is_right(question, " aaabnn"));
  EXPECT_FALSE(is_right(question, " aaabn"));
  EXPECT_FALSE(is_right(question, " aaabnnn"));
}

TEST(DemoTask, QuestionsAreDifferentAndOfAllLengths) {
  const DemoTask task = make_demo_task(kSizes, 1);
  EXPECT_EQ(task.train.size(), 300U);
  EXPECT_EQ(task.evaluation.size(), 20U);
  EXPECT_EQ(task.held_out.size(), 30U);
  EXPECT_EQ(task.held_out.front().letters, "planet");
  std::set<std::string> all;
  std::set<std::size_t> lengths;
  for (const auto* part : {&task.train, &task.evaluation, &task.held_out}) {
    for (const DemoQuestion& question : *part) {
      all.insert(question.letters);
      lengths.insert(question.letters.size());
    }
  }
  EXPECT_EQ(all.size(), 350U);
  EXPECT_THAT(lengths, testing::ElementsAre(4, 5, 6, 7, 8));
}

TEST(DemoTask, TheSeedDecides) {
  const auto letters = [](std::uint64_t seed) {
    return make_demo_task(kSizes, seed).train.front().letters;
  };
  EXPECT_EQ(letters(1), letters(1));
  EXPECT_NE(letters(1), letters(2));
}

TEST(DemoModel, TheTokenizerSpellsQuestionsByLetters) {
  const Tokenizer tokenizer = Tokenizer::from_text(demo_tokenizer_json(), "tokenizer.json");
  EXPECT_EQ(tokenizer.vocab_size(), demo_config().vocab_size);
  const DemoQuestion question{"planet"};
  const auto prompt = tokenizer.encode(question.prompt(), true);
  const auto whole = tokenizer.encode(question.prompt() + question.completion(), true);
  EXPECT_EQ(prompt.size(), 3U + 6U + 1U);  // <s> sort Ġ, letters, Ġ=
  EXPECT_EQ(whole.size(), prompt.size() + 1 + 6);
  EXPECT_TRUE(std::equal(prompt.begin(), prompt.end(), whole.begin()));
  const std::vector<std::int32_t> answer(whole.begin() + static_cast<std::ptrdiff_t>(prompt.size()),
                                         whole.end());
  EXPECT_EQ(tokenizer.decode(answer, true), question.completion());
}

}  // namespace
}  // namespace snug
