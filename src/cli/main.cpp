#include <fcntl.h>

#include <csignal>
#include <string>
#include <vector>

#include "cli/verbs.h"
#include "core/heap.h"

namespace {

/// A stream that came closed is one that cannot be used, never the first file that is opened.
void keep_standard_streams() {
  for (const int stream : {0, 1, 2}) {
    if (fcntl(stream, F_GETFD) < 0) open("/dev/null", stream == 0 ? O_WRONLY : O_RDONLY);
  }
}

}  // namespace

/// A reader that is gone is an error of writing. Not ignored, as started programs would inherit
/// that.
extern "C" void snug_broken_pipe(int) {}

int main(int argc, char** argv) {
  keep_standard_streams();
  std::signal(SIGPIPE, snug_broken_pipe);
  std::signal(SIGXFSZ, SIG_IGN);  // a file that grows too large is an error with a name
  snug::settle_heap();
  const std::vector<std::string> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
  snug::Console console = snug::standard_console();
  return snug::run_snug(arguments, snug::verb_table(), console);
}
