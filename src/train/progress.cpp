#include "train/progress.h"

#include <cmath>

#include "core/error.h"

namespace snug {
namespace {

constexpr double kGibibyte = 1024.0 * 1024.0 * 1024.0;
constexpr double kMebibyte = 1024.0 * 1024.0;

/// `6.21/6.21 GiB`, or MiB below one GiB.
std::string format_memory(std::int64_t used, std::int64_t planned) {
  const bool large = static_cast<double>(planned) >= kGibibyte;
  const double unit = large ? kGibibyte : kMebibyte;
  return fmt::format("{:.{}f}/{:.{}f} {}", static_cast<double>(used) / unit, large ? 2 : 1,
                     static_cast<double>(planned) / unit, large ? 2 : 1, large ? "GiB" : "MiB");
}

}  // namespace

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "?";
  const auto whole = static_cast<std::int64_t>(std::llround(seconds));
  if (whole < 3600) return fmt::format("{}:{:02}", whole / 60, whole % 60);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

std::string format_progress(const ProgressLine& line) {
  return fmt::format(
      "step {}/{} · loss {:.3f} · lr {:.1e} · |g| {:.2f} · {:.0f} tok/s · {} · eta {}", line.step,
      line.steps, line.loss, line.learning_rate, line.grad_norm, line.tokens_per_second,
      format_memory(line.used_bytes, line.planned_bytes), format_duration(line.seconds_left));
}

void Progress::show(const ProgressLine& line, bool log) {
  if (!talk_.terminal) {
    if (log) talk_.out << format_progress(line) << "\n" << std::flush;
    return;
  }
  const auto now = std::chrono::steady_clock::now();
  const bool last = line.step == line.steps;
  if (!last && now - last_ < std::chrono::milliseconds(200)) return;
  last_ = now;
  talk_.out << "\r" << format_progress(line) << "\033[K" << std::flush;
  open_ = true;
}

void Progress::finish() {
  if (open_) talk_.out << "\n" << std::flush;
  open_ = false;
}

}  // namespace snug
