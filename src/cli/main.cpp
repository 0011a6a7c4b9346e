#include <string>
#include <vector>

#include "cli/verbs.h"

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
  snug::Console console = snug::standard_console();
  return snug::run_snug(arguments, snug::verb_table(), console);
}
