#include "train/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cmath>
#include <streambuf>
#include <vector>

#include "core/text.h"

namespace snug {
namespace {

constexpr double kGibibyte = 1024.0 * 1024.0 * 1024.0;
constexpr double kMebibyte = 1024.0 * 1024.0;
constexpr int kUnknownWidth = 80;
constexpr std::string_view kSeparator = " · ";
constexpr std::string_view kIndent = "  ";

/// `6.21/6.21 GiB`, or MiB below one GiB.
std::string format_memory(std::int64_t used, std::int64_t planned) {
  const bool large = static_cast<double>(planned) >= kGibibyte;
  const double unit = large ? kGibibyte : kMebibyte;
  return fmt::format("{:.{}f}/{:.{}f} {}", static_cast<double>(used) / unit, large ? 2 : 1,
                     static_cast<double>(planned) / unit, large ? 2 : 1, large ? "GiB" : "MiB");
}

/// A part of the line. Where there is no room for all, those of the highest rank go first.
struct Part {
  int rank;
  std::string text;
};

std::vector<Part> parts_of(const ProgressLine& line) {
  return {{0, fmt::format("step {}/{}", line.step, line.steps)},
          {1, fmt::format("loss {:.3f}", line.loss)},
          {5, fmt::format("lr {:.1e}", line.learning_rate)},
          {6, fmt::format("|g| {:.2f}", line.grad_norm)},
          {3, fmt::format("{:.0f} tok/s", line.tokens_per_second)},
          {4, format_memory(line.used_bytes, line.planned_bytes)},
          {2, fmt::format("eta {}", format_duration(line.seconds_left))}};
}

std::string joined(const std::vector<Part>& parts) {
  std::string text;
  for (const Part& part : parts) {
    if (!text.empty()) text += kSeparator;
    text += part.text;
  }
  return text;
}

/// Columns of a terminal as wide as it is now; one is left free, since a character in the last one
/// makes some terminals begin another line.
int columns_of(int terminal) {
  winsize size{};
  const bool known = ioctl(terminal, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return std::max(1, (known ? static_cast<int>(size.ws_col) : kUnknownWidth) - 1);
}

}  // namespace

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "?";
  const auto whole = static_cast<std::int64_t>(std::llround(seconds));
  if (whole < 3600) return fmt::format("{}:{:02}", whole / 60, whole % 60);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

std::string format_progress(const ProgressLine& line) { return joined(parts_of(line)); }

std::string fitted_progress(const ProgressLine& line, int columns) {
  std::vector<Part> parts = parts_of(line);
  while (parts.size() > 1 && display_columns(joined(parts)) > columns) {
    parts.erase(std::max_element(parts.begin(), parts.end(),
                                 [](const Part& a, const Part& b) { return a.rank < b.rank; }));
  }
  return cut_to_columns(joined(parts), columns);
}

std::string folded_progress(const ProgressLine& line, int columns) {
  std::string text;
  int used = 0;
  for (const Part& part : parts_of(line)) {
    const int wide = display_columns(part.text);
    if (text.empty()) {
      text = part.text;
      used = wide;
    } else if (used + display_columns(kSeparator) + wide <= columns) {
      text += kSeparator;
      text += part.text;
      used += display_columns(kSeparator) + wide;
    } else {
      text += fmt::format("\n{}{}", kIndent, part.text);
      used = display_columns(kIndent) + wide;
    }
  }
  return text;
}

/// Stands in the stream for its buffer, so that any text written to the stream clears the status
/// line first. The cursor rests at the line's first column: where a terminal wraps its lines anew
/// on being resized, all that became of this one lies at and below the cursor, and is cleared.
class Progress::StatusLine : public std::streambuf {
 public:
  explicit StatusLine(std::ostream& out) : out_(out), buffer_(swap(this)) {}
  ~StatusLine() override {
    clear();
    buffer_->pubsync();
    swap(buffer_);
  }
  StatusLine(const StatusLine&) = delete;
  StatusLine& operator=(const StatusLine&) = delete;

  void draw(std::string_view text) {
    put(fmt::format("{}{}\r", kClear, text));
    buffer_->pubsync();
    open_ = true;
  }

 protected:
  int_type overflow(int_type c) override {
    if (traits_type::eq_int_type(c, traits_type::eof())) return traits_type::not_eof(c);
    clear();
    return buffer_->sputc(traits_type::to_char_type(c));
  }
  std::streamsize xsputn(const char* text, std::streamsize size) override {
    if (size > 0) clear();
    return buffer_->sputn(text, size);
  }
  int sync() override { return buffer_->pubsync(); }

 private:
  static constexpr std::string_view kClear = "\r\x1b[J";

  /// Exchanges the stream's buffer and keeps its state.
  std::streambuf* swap(std::streambuf* buffer) {
    const std::ios_base::iostate state = out_.rdstate();
    std::streambuf* const before = out_.rdbuf(buffer);
    out_.setstate(state);
    return before;
  }
  void put(std::string_view text) {
    buffer_->sputn(text.data(), static_cast<std::streamsize>(text.size()));
  }
  void clear() {
    if (open_) put(kClear);
    open_ = false;
  }

  std::ostream& out_;
  std::streambuf* buffer_;
  bool open_ = false;
};

Progress::Progress(Talk talk) : talk_(talk) {
  if (talk_.terminal >= 0) status_ = std::make_unique<StatusLine>(talk_.out);
}

Progress::~Progress() = default;

void Progress::show(const ProgressLine& line, bool log) {
  if (status_ == nullptr) {
    if (log) talk_.out << format_progress(line) << "\n" << std::flush;
    return;
  }
  if (log) {
    talk_.out << folded_progress(line, columns_of(talk_.terminal)) << "\n" << std::flush;
    return;
  }
  const auto now = std::chrono::steady_clock::now();
  if (now - last_ < std::chrono::milliseconds(200)) return;
  last_ = now;
  status_->draw(fitted_progress(line, columns_of(talk_.terminal)));
}

}  // namespace snug
