#include "train/generator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/settings_load.h"

namespace snug {
namespace {

using testing::HasSubstr;

/// A model of random weights large enough to tell tokens apart. The second layer sees 5 positions.
ModelSource tiny() {
  ModelSource model;
  ModelConfig& config = model.config;
  config.family = Family::mistral;
  config.vocab_size = 61;
  config.hidden_size = 24;
  config.intermediate_size = 40;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 6;
  config.num_key_value_heads = 3;
  config.head_dim = 8;  // not hidden_size / heads
  config.max_position_embeddings = 64;
  config.rms_norm_eps = 1e-6;
  config.sliding_window = {0, 5};
  config.initializer_range = 0.3;
  return model;
}

/// `assignments` such as `device=reference`.
Settings settings_of(std::initializer_list<std::pair<std::string, std::string>> assignments) {
  std::vector<Assignment> list;
  for (const auto& [key, value] : assignments) list.push_back(from_command_line(key, value));
  return make_settings(list);
}

std::vector<std::int32_t> prompt_of(std::int32_t length) {
  std::vector<std::int32_t> prompt;
  for (std::int32_t i = 0; i < length; ++i) prompt.push_back((i * 17 + 5) % 61);
  return prompt;
}

std::vector<float> copy(std::span<const float> logits) { return {logits.begin(), logits.end()}; }

/// The logits behind the prompt, fed in one piece, and behind some tokens more.
struct Fed {
  std::vector<float> after_prompt;
  std::vector<float> after_more;
};

Fed feed_by(const Settings& settings, std::int32_t length, std::int64_t prompt_capacity,
            std::int64_t chunk) {
  Generator generator(
      tiny(), {.prompt_tokens = prompt_capacity, .new_tokens = 4, .chunk_tokens = chunk}, settings);
  Fed fed;
  fed.after_prompt = copy(generator.feed(prompt_of(length)));
  for (const std::int32_t token : {9, 33, 2}) {
    fed.after_more = copy(generator.feed({&token, 1}));
  }
  return fed;
}

/// Largest difference over the largest magnitude.
double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0;
  double size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference = std::max(difference, std::abs(static_cast<double>(a[i]) - b[i]));
    size = std::max(size, std::abs(static_cast<double>(b[i])));
  }
  return difference / size;
}

// Chunks of one token are decode's program, of 13 a single one, of 4 have a padded tail.
TEST(Generator, ChunksOfThePromptDoNotChangeABitOfTheReference) {
  const Settings settings = settings_of({{"device", "reference"}, {"bf16", "false"}});
  const Fed whole = feed_by(settings, 13, 13, 13);
  for (const std::int64_t chunk : {1, 4, 5, 12}) {
    const Fed chunked = feed_by(settings, 13, 13, chunk);
    EXPECT_EQ(chunked.after_prompt, whole.after_prompt) << "chunks of " << chunk;
    EXPECT_EQ(chunked.after_more, whole.after_more) << "chunks of " << chunk;
  }
}

TEST(Generator, RoomForALongerPromptDoesNotChangeABitOfTheReference) {
  const Settings settings = settings_of({{"device", "reference"}, {"bf16", "false"}});
  const Fed tight = feed_by(settings, 7, 7, 16);
  const Fed roomy = feed_by(settings, 7, 30, 16);
  EXPECT_EQ(roomy.after_prompt, tight.after_prompt);
  EXPECT_EQ(roomy.after_more, tight.after_more);
}

TEST(Generator, ChunksOnTheCpuDifferByRoundingOnly) {
  const Settings settings = settings_of({{"device", "cpu"}, {"bf16", "false"}});
  const Fed whole = feed_by(settings, 13, 13, 13);
  const Fed reference =
      feed_by(settings_of({{"device", "reference"}, {"bf16", "false"}}), 13, 13, 13);
  // A few hundred roundings of random sign, amplified by two layers of weights of 0.3.
  const double tolerance = 200 * std::numeric_limits<float>::epsilon();
  EXPECT_LT(distance(whole.after_more, reference.after_more), tolerance);
  for (const std::int64_t chunk : {1, 4, 5}) {
    const Fed chunked = feed_by(settings, 13, 13, chunk);
    EXPECT_LT(distance(chunked.after_prompt, whole.after_prompt), tolerance) << chunk;
    EXPECT_LT(distance(chunked.after_more, whole.after_more), tolerance) << chunk;
  }
}

TEST(Generator, FeedsPiecesOfAnyLength) {
  const Settings settings = settings_of({{"device", "reference"}, {"bf16", "false"}});
  const GeneratorCapacity capacity{.prompt_tokens = 12, .new_tokens = 1, .chunk_tokens = 4};
  const std::vector<std::int32_t> prompt = prompt_of(13);
  Generator whole(tiny(), capacity, settings);
  const std::vector<float> expected = copy(whole.feed(prompt));
  Generator pieces(tiny(), capacity, settings);
  const std::span<const std::int32_t> tokens(prompt);
  pieces.feed(tokens.subspan(0, 3));
  pieces.feed(tokens.subspan(3, 7));
  EXPECT_EQ(copy(pieces.feed(tokens.subspan(10))), expected);  // its padding has no room
  pieces.restart();
  EXPECT_EQ(copy(pieces.feed(prompt)), expected);
}

TEST(Generator, RunsGreedilyUntilTheMostTokensAndUsesWhatWasPlanned) {
  const Settings settings = settings_of({{"device", "cpu"}, {"bf16", "false"}});
  Generator generator(tiny(), {.prompt_tokens = 9, .new_tokens = 12, .chunk_tokens = 4}, settings);
  const std::vector<std::int32_t> prompt = prompt_of(9);
  std::vector<std::int32_t> seen;
  const Generation generation =
      generator.run(prompt, 12, {}, [&](std::int32_t token) { seen.push_back(token); });
  EXPECT_FALSE(generation.stopped);
  EXPECT_EQ(generation.tokens.size(), 12U);
  EXPECT_EQ(seen, generation.tokens);
  EXPECT_EQ(generator.used_bytes(), generator.planned_bytes());

  std::vector<std::int32_t> by_hand;
  generator.restart();
  std::vector<float> logits = copy(generator.feed(prompt));
  for (int i = 0; i < 12; ++i) {
    by_hand.push_back(likeliest(logits));
    logits = copy(generator.feed({&by_hand.back(), 1}));
  }
  EXPECT_EQ(generation.tokens, by_hand);
}

TEST(Generator, StopsAtAStopToken) {
  const Settings settings = settings_of({{"device", "cpu"}, {"bf16", "false"}});
  const GeneratorCapacity capacity{.prompt_tokens = 5, .new_tokens = 8};
  const std::vector<std::int32_t> prompt = prompt_of(5);
  const auto nothing = [](std::int32_t) {};
  ModelSource model = tiny();
  const Generation free = Generator(model, capacity, settings).run(prompt, 8, {}, nothing);
  const std::int32_t third = free.tokens[2];
  ASSERT_NE(third, free.tokens[0]);
  ASSERT_NE(third, free.tokens[1]);
  model.config.eos_token_ids = {60, third};
  std::vector<std::int32_t> seen;
  const Generation stopped =
      Generator(model, capacity, settings).run(prompt, 8, {}, [&](std::int32_t t) {
        seen.push_back(t);
      });
  EXPECT_TRUE(stopped.stopped);
  EXPECT_THAT(stopped.tokens, testing::ElementsAre(free.tokens[0], free.tokens[1], third));
  EXPECT_THAT(seen, testing::ElementsAre(free.tokens[0], free.tokens[1]));
}

TEST(Generator, Bf16KeepsHalfTheBytesOfWeights) {
  const GeneratorCapacity capacity{.prompt_tokens = 5, .new_tokens = 8};
  Generator half(tiny(), capacity, settings_of({{"device", "cpu"}, {"bf16", "true"}}));
  Generator full(tiny(), capacity, settings_of({{"device", "cpu"}, {"bf16", "false"}}));
  EXPECT_EQ(half.weight_type(), DType::bf16);
  EXPECT_EQ(2 * half.cache_bytes(), full.cache_bytes());
  const std::vector<float> a = copy(half.feed(prompt_of(5)));
  // Weights and activations carry 8 bits; two layers of about ten roundings each.
  EXPECT_LT(distance(a, copy(full.feed(prompt_of(5)))), 20.0 / 256);
}

template <class F>
std::string user_message(F&& call) {
  try {
    call();
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Generator, NamesTheRoomWhereTheModelHasNoMorePositions) {
  const ModelConfig config = tiny().config;
  EXPECT_EQ(user_message([&] { check_positions(config, 60, 4); }), "no error");
  EXPECT_THAT(user_message([&] { check_positions(config, 60, 5); }),
              HasSubstr("60 + 5 tokens; the model knows 64 positions (max_position_embeddings). "
                        "Use max_new_tokens=4."));
  EXPECT_THAT(user_message([&] { check_positions(config, 64, 1); }),
              HasSubstr("Shorten the prompt."));
  EXPECT_THROW(Generator(tiny(), {.prompt_tokens = 60, .new_tokens = 5},
                         settings_of({{"device", "reference"}})),
               UserError);
}

TEST(Generator, RefusesAPlanBeyondTheBudget) {
  EXPECT_THROW(Generator(tiny(), {.prompt_tokens = 8, .new_tokens = 8},
                         settings_of({{"device", "reference"}, {"device_memory", "1MiB"}})),
               DoesNotFit);
}

}  // namespace
}  // namespace snug
