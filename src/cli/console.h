#pragma once
// Where a command prints: results on `out`, talk on `talk`.

#include <ostream>
#include <string>
#include <string_view>

namespace snug {

/// What may be done with a stream: nothing when it is no terminal.
struct Terminal {
  bool color = false;
  int descriptor = -1;  // of a terminal whose lines can be rewritten, else -1
  int width = 100;      // columns

  /// The text in bold where that is allowed.
  std::string bold(std::string_view text) const;
};

struct Console {
  std::ostream& out;
  std::ostream& talk;
  Terminal out_terminal = {};
  Terminal talk_terminal = {};
};

/// Standard output and error. NO_COLOR (any value but empty) and TERM=dumb switch colours off.
Console standard_console();

/// The text in lines of at most `width` columns (longer words stay whole), each starting with
/// `indent` spaces, each ended.
std::string wrapped(std::string_view text, int indent, int width);

}  // namespace snug
