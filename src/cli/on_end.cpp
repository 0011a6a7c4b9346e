#include "cli/on_end.h"

#include <fmt/ostream.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <system_error>
#include <vector>

#include "core/error.h"

namespace snug {
namespace {

namespace fs = std::filesystem;

/// This process's environment, and what the ending adds.
std::vector<std::string> environment_of(const RunEnding& ending) {
  std::vector<std::string> lines;
  for (char** line = environ; *line != nullptr; ++line) {
    if (!std::string_view(*line).starts_with("SNUG_")) lines.emplace_back(*line);
  }
  lines.push_back("SNUG_OUTCOME=" + ending.outcome);
  lines.push_back(fmt::format("SNUG_EXIT_STATUS={}", ending.exit_status));
  lines.push_back(ending.signal == 0 ? "SNUG_SIGNAL="
                                     : fmt::format("SNUG_SIGNAL={}", ending.signal));
  lines.push_back("SNUG_OUTPUT_DIR=" + ending.output_dir);
  lines.push_back(fmt::format("SNUG_STEP={}", ending.step));
  lines.push_back("SNUG_MESSAGE=" + ending.message);
  return lines;
}

/// With standard output on standard error, and signals as they are for a new program.
int start_shell(const std::string& command, const RunEnding& ending, pid_t& child) {
  std::vector<std::string> lines = environment_of(ending);
  std::vector<char*> environment;
  environment.reserve(lines.size() + 1);
  for (std::string& line : lines) environment.push_back(line.data());
  environment.push_back(nullptr);
  std::string shell = "sh";
  std::string option = "-c";
  std::string text = command;
  std::array<char*, 4> arguments = {shell.data(), option.data(), text.data(), nullptr};
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_adddup2(&files, STDERR_FILENO, STDOUT_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t defaults;
  sigemptyset(&defaults);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGXFSZ}) sigaddset(&defaults, signal);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
  const int error =
      ::posix_spawn(&child, "/bin/sh", &files, &attributes, arguments.data(), environment.data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  return error;
}

}  // namespace

void check_on_end(const Settings& settings) {
  if (settings.run.on_end.empty()) return;
  const Origin origin = settings.origin("on_end");
  if (origin.level != Origin::Level::file) return;
  const fs::path file = origin.place.substr(0, origin.place.rfind(':'));
  std::error_code error;
  const fs::path real = fs::canonical(file, error);
  for (const fs::path& folder : {file.parent_path(), real.parent_path()}) {
    for (const char* name : {"trainer_state.json", "run.json", "checksums.json", "config.json",
                             "adapter_config.json"}) {
      if (!fs::exists((folder.empty() ? fs::path(".") : folder) / name)) continue;
      user_error(
          "{}: on_end is not taken from the folder of a run, a checkpoint or a model (it holds "
          "{}). "
          "Give it on the command line or in a config file of your own.",
          origin.place, name);
    }
  }
}

void run_on_end(const std::string& command, const RunEnding& ending, std::ostream& talk) {
  if (command.empty()) return;
  talk.flush();
  pid_t child = 0;
  if (const int error = start_shell(command, ending, child); error != 0) {
    fmt::print(talk, "on_end: cannot be started: {}\n", std::generic_category().message(error));
    return;
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
  fmt::print(talk, "on_end: {} with {}\n", WIFEXITED(status) ? "ended" : "was stopped by a signal,",
             WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
}

}  // namespace snug
