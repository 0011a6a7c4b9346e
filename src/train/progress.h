#pragma once
// The line that shows how training goes.

#include <chrono>
#include <cstdint>
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

/// `4:12`, `1:02:03`.
std::string format_duration(double seconds);

/// Where training talks.
struct Talk {
  std::ostream& out;
  bool terminal = false;
};

/// Shows the line in place and at most five times a second on a terminal, else as a line of its own
/// each time `log` is true.
class Progress {
 public:
  explicit Progress(Talk talk) : talk_(talk) {}
  void show(const ProgressLine& line, bool log);
  /// Ends a line that stands open on a terminal.
  void finish();

 private:
  Talk talk_;
  bool open_ = false;
  std::chrono::steady_clock::time_point last_{};
};

}  // namespace snug
