#include "cli/demo_score.h"

#include <algorithm>
#include <chrono>

#include "data/tokenizer/tokenizer.h"
#include "train/generator.h"

namespace snug {

DemoScore score_demo(const std::filesystem::path& folder, std::span<const DemoQuestion> questions,
                     const Settings& settings) {
  ModelSettings which;
  which.name_or_path = folder.string();
  const ModelSource model = open_model(which);
  const Tokenizer tokenizer = Tokenizer::from_file(folder / "tokenizer.json");
  std::vector<std::vector<std::int32_t>> prompts;
  // Room for the letters, the space before them, the stop token and one that should not be there.
  GeneratorCapacity capacity{.prompt_tokens = 1, .new_tokens = kDemoLongest + 3};
  for (const DemoQuestion& question : questions) {
    prompts.push_back(tokenizer.encode(question.prompt(), true));
    capacity.prompt_tokens =
        std::max(capacity.prompt_tokens, static_cast<std::int64_t>(prompts.back().size()));
  }
  Generator generator(model, capacity, settings);
  DemoScore score;
  const auto start = std::chrono::steady_clock::now();
  for (std::size_t i = 0; i < questions.size(); ++i) {
    const Generation generation =
        generator.run(prompts[i], capacity.new_tokens, {}, [](std::int32_t) {});
    score.answers.push_back(tokenizer.decode(generation.tokens, true));
    if (is_right(questions[i], score.answers.back())) ++score.right;
  }
  score.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return score;
}

}  // namespace snug
