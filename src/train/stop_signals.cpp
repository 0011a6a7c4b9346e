#include "train/stop_signals.h"

#include <atomic>
#include <csignal>

namespace snug {
namespace {

// A signal handler can reach nothing but static storage.
std::atomic<int> arrived_signal{0};  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)

extern "C" void note_signal(int signal) {
  arrived_signal = signal;
  std::signal(signal, SIG_DFL);  // the next one stops at once
}

}  // namespace

StopSignals::StopSignals() {
  arrived_signal = 0;
  std::signal(SIGINT, note_signal);
  std::signal(SIGTERM, note_signal);
}

StopSignals::~StopSignals() {
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
}

int StopSignals::arrived() { return arrived_signal; }

}  // namespace snug
