#pragma once
// The line that shows how training goes.

#include <chrono>
#include <cstdint>
#include <memory>
#include <ostream>
#include <string>

namespace snug {

/// What the progress line says.
struct ProgressLine {
  std::int64_t step = 0;
  std::int64_t steps = 0;
  double loss = 0;
  double learning_rate = 0;
  double grad_norm = 0;
  double tokens_per_second = 0;
  std::int64_t used_bytes = 0;
  std::int64_t planned_bytes = 0;
  double seconds_left = 0;
};

/// `step 120/186 · loss 1.284 · lr 1.1e-05 · |g| 0.71 · 312 tok/s · 6.21/6.21 GiB · eta 4:12`
std::string format_progress(const ProgressLine& line);

/// The same without what matters least, so that it takes at most `columns` (1 or more).
std::string fitted_progress(const ProgressLine& line, int columns);

/// The same, whole, in lines of at most `columns` where its parts allow it; those after the first
/// are indented. No '\n' at the end.
std::string folded_progress(const ProgressLine& line, int columns);

/// `4:12`, `1:02:03`.
std::string format_duration(double seconds);

/// Where training talks.
struct Talk {
  std::ostream& out;
  int terminal = -1;  ///< file descriptor of the terminal behind `out`; -1: it is none
};

/// Shows how training goes: a line of its own each time `log` is true; on a terminal, below what
/// was written so far, also a status line that is rewritten at most five times a second and fits
/// the terminal's width of that moment. While this lives, whatever is written to the stream of
/// `talk` goes above the status line, and stays.
class Progress {
 public:
  explicit Progress(Talk talk);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void show(const ProgressLine& line, bool log);

 private:
  class StatusLine;
  Talk talk_;
  std::unique_ptr<StatusLine> status_;  ///< nullptr without a terminal
  std::chrono::steady_clock::time_point last_{};
};

}  // namespace snug
