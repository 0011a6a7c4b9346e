#include "cli/demo_task.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>

#include "core/error.h"
#include "core/philox.h"
#include "io/file.h"

namespace snug {
namespace {

constexpr std::array<std::string_view, kDemoShown> kWords = {"planet", "budget", "memory",
                                                             "gradient", "compiler"};
constexpr std::uint32_t kLetters = 26;

/// The letters of question number `index`; its length follows from the number.
std::string draw_letters(const RandomStream& stream, std::int64_t index) {
  const auto length =
      static_cast<std::size_t>(kDemoShortest + index % (kDemoLongest - kDemoShortest + 1));
  std::string letters;
  for (std::size_t i = 0; i < length; ++i) {
    // 16 places a question; a bias of 26 / 2^32 is nothing here.
    const std::uint32_t bits = stream.bits32(static_cast<std::uint64_t>(index) * 16 + i);
    letters += static_cast<char>('a' + bits % kLetters);
  }
  return letters;
}

}  // namespace

std::string DemoQuestion::answer() const {
  std::string sorted = letters;
  std::sort(sorted.begin(), sorted.end());
  return sorted;
}

std::string DemoQuestion::prompt() const { return fmt::format("sort {} =", letters); }
std::string DemoQuestion::completion() const { return fmt::format(" {}", answer()); }

DemoTask make_demo_task(const DemoSizes& sizes, std::uint64_t seed) {
  check(sizes.held_out >= static_cast<std::int64_t>(kDemoShown), "{} questions held out",
        sizes.held_out);
  const RandomStream stream{.seed = seed, .stream = stream_hash("demo/questions")};
  DemoTask task;
  std::set<std::string, std::less<>> taken;
  for (const std::string_view word : kWords) {
    taken.emplace(word);
    task.held_out.push_back({std::string(word)});
  }
  std::int64_t index = 0;
  const auto fill = [&](std::vector<DemoQuestion>& questions, std::int64_t count) {
    while (static_cast<std::int64_t>(questions.size()) < count) {
      std::string letters = draw_letters(stream, index++);
      if (taken.insert(letters).second) questions.push_back({std::move(letters)});
    }
  };
  fill(task.held_out, sizes.held_out);
  fill(task.evaluation, sizes.evaluation);
  fill(task.train, sizes.train);
  return task;
}

void write_demo_rows(const std::filesystem::path& file, std::span<const DemoQuestion> questions) {
  std::string text;
  for (const DemoQuestion& question : questions) {
    text += fmt::format("{{\"prompt\": \"{}\", \"completion\": \"{}\"}}\n", question.prompt(),
                        question.completion());
  }
  write_text(file, text);
}

bool is_right(const DemoQuestion& question, std::string_view generated) {
  return generated == question.completion();
}

}  // namespace snug
