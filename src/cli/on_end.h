#pragma once
// The user's command at the end of a run.

#include <cstdint>
#include <ostream>
#include <string>

#include "core/settings.h"

namespace snug {

/// What the command finds in its environment, as SNUG_OUTCOME and so on.
struct RunEnding {
  std::string outcome;  ///< done, stopped, does_not_fit, failed
  int exit_status = 0;
  int signal = 0;  ///< that stopped the run; 0: none
  std::string output_dir;
  std::int64_t step = 0;
  std::string message;  ///< of the failure
};

/// UserError when on_end stands in a config file that lies in a run's, a checkpoint's or a model's
/// folder: what comes with weights starts no programs.
void check_on_end(const Settings& settings);

/// Runs `command` in a shell and waits for it; its output goes to standard error. Says so when it
/// fails, which changes nothing else. Nothing where `command` is empty.
void run_on_end(const std::string& command, const RunEnding& ending, std::ostream& talk);

}  // namespace snug
