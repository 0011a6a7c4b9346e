#pragma once
// Signals that end a run in good order.

namespace snug {

/// Asks for a stop after the current step when SIGINT or SIGTERM arrives; a second signal has its
/// usual effect. Restores what was there when it goes.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;
  /// The signal that arrived, or 0.
  static int arrived();
};

}  // namespace snug
