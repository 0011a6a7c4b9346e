#include "cli/console.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>

#include "core/text.h"

namespace snug {
namespace {

constexpr int kNarrowest = 40;
constexpr int kWidest = 120;

bool is_set(const char* name) {
  const char* const value = std::getenv(name);
  return value != nullptr && *value != '\0';
}

Terminal terminal_of(int file) {
  Terminal terminal;
  if (isatty(file) != 1) return terminal;
  const char* const kind = std::getenv("TERM");
  const bool controlled = kind != nullptr && std::string_view(kind) != "dumb";
  terminal.color = !is_set("NO_COLOR") && controlled;
  if (controlled) terminal.descriptor = file;
  winsize size{};
  if (ioctl(file, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    terminal.width = std::clamp<int>(size.ws_col, kNarrowest, kWidest);
  }
  return terminal;
}

}  // namespace

std::string Terminal::bold(std::string_view text) const {
  return color ? fmt::format("\x1b[1m{}\x1b[0m", text) : std::string(text);
}

Console standard_console() {
  return {std::cout, std::cerr, terminal_of(STDOUT_FILENO), terminal_of(STDERR_FILENO)};
}

std::string wrapped(std::string_view text, int indent, int width) {
  const std::string margin(static_cast<std::size_t>(indent), ' ');
  std::string result;
  int used = 0;  // columns of the line so far, 0: no line begun
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (word.empty()) continue;
    if (used > 0 && used + 1 + display_columns(word) > width) {
      result += '\n';
      used = 0;
    }
    result += used == 0 ? margin : " ";
    used += (used == 0 ? indent : 1) + display_columns(word);
    result += word;
  }
  return used > 0 ? result + '\n' : result;
}

}  // namespace snug
