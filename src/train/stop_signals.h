#pragma once
// Signals that end a run in good order.

#include <signal.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <thread>

namespace snug {

/// Asks for a stop after the current step when SIGINT, SIGTERM, SIGHUP or SIGUSR1 arrives, unless
/// it was ignored when the process began (nohup). Where a stop in good order would take longer than
/// `grace`, all but SIGINT end the process at once. A second signal has its usual effect. Restores
/// what was there when it goes. One at a time in a process.
class StopSignals {
 public:
  /// `at_once` is called in a thread of its own, with the signal and the seconds that a stop in
  /// good order would take (infinity: nothing has begun that could end well), and does not return.
  StopSignals(double grace_seconds, std::function<void(int signal, double seconds)> at_once);
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  /// The signal that arrived, or 0.
  static int arrived();
  /// From now on, a stop in good order takes about this long; infinity: there is none.
  void expect(double seconds);

 private:
  void watch();
  double grace_;
  std::function<void(int, double)> at_once_;
  std::atomic<std::int64_t> ready_at_;  ///< nanoseconds of the steady clock
  std::array<struct sigaction, 4> before_{};
  std::thread watcher_;
};

}  // namespace snug
