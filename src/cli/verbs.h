#pragma once
// The verbs, and the frame around all of them: parsing, notes, errors, exit status.

#include <span>
#include <string>
#include <string_view>

#include "cli/command_line.h"
#include "cli/console.h"

namespace snug {

// Exit statuses.
constexpr int kDone = 0;
constexpr int kUserError = 1;
constexpr int kInternalError = 2;
constexpr int kDoesNotFit = 3;
constexpr int kSignalled = 128;    // and the signal's number
constexpr int kInterrupted = 130;  // SIGINT, the step finished and the checkpoint saved
constexpr int kTerminated = 143;   // SIGTERM, likewise

/// Exit statuses for people.
struct ExitStatus {
  std::string_view status;
  std::string_view meaning;
};
std::span<const ExitStatus> exit_table();

/// All verbs, in the order of help.
std::span<const Verb> verb_table();

/// Runs `snug ARGUMENTS...` and returns its exit status; throws nothing. Errors of settings are all
/// found before the verb runs. An error is one line on `talk` and, with --json, an object {schema,
/// error: {kind, message}} on `out`. An `out` that took not all of it is an error too.
int run_snug(std::span<const std::string> arguments, std::span<const Verb> verbs, Console& console);

// Each in its own file, verb_NAME.cpp.
int run_bench(const Command& command, Console& console);
int run_demo(const Command& command, Console& console);
int run_eval(const Command& command, Console& console);
int run_export(const Command& command, Console& console);
int run_explain(const Command& command, Console& console);
int run_help(const Command& command, Console& console);
int run_generate(const Command& command, Console& console);
int run_inspect(const Command& command, Console& console);
int run_merge(const Command& command, Console& console);
int run_plan(const Command& command, Console& console);
int run_train(const Command& command, Console& console);

}  // namespace snug
