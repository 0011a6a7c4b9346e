#pragma once
// The demo's task: the letters of a string in alphabetical order. Its rows and its questions are
// drawn from a seed; a question's answer is computed, so every answer can be checked.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace snug {

inline constexpr int kDemoShortest = 4;  ///< letters of a question
inline constexpr int kDemoLongest = 8;

struct DemoQuestion {
  std::string letters;
  std::string answer() const;      ///< the letters sorted: `aelnpt`
  std::string prompt() const;      ///< `sort planet =`
  std::string completion() const;  ///< ` aelnpt`
};

struct DemoTask {
  std::vector<DemoQuestion> train;
  std::vector<DemoQuestion> evaluation;
  std::vector<DemoQuestion> held_out;  ///< the first kDemoShown are words
};

inline constexpr std::size_t kDemoShown = 5;

struct DemoSizes {
  std::int64_t train = 0;
  std::int64_t evaluation = 0;
  std::int64_t held_out = 0;
};

/// Questions of random letters and lengths, all different from each other, evenly over the lengths.
DemoTask make_demo_task(const DemoSizes& sizes, std::uint64_t seed);

/// JSON Lines of `prompt` and `completion`.
void write_demo_rows(const std::filesystem::path& file, std::span<const DemoQuestion> questions);

/// Whether the text generated behind a prompt is the answer, letter by letter.
bool is_right(const DemoQuestion& question, std::string_view generated);

}  // namespace snug
