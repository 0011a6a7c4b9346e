#include "train/stop_signals.h"

#include <semaphore.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <limits>
#include <utility>

namespace snug {
namespace {

constexpr std::array kSignals = {SIGINT, SIGTERM, SIGHUP, SIGUSR1};
constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

// A signal handler can reach nothing but static storage.
// NOLINTBEGIN(cppcoreguidelines-avoid-non-const-global-variables)
std::atomic<int> arrived_signal{0};
sem_t arrival;
// NOLINTEND(cppcoreguidelines-avoid-non-const-global-variables)

extern "C" void note_signal(int signal) {
  int none = 0;
  if (arrived_signal.compare_exchange_strong(none, signal)) {
    const int saved = errno;
    ::sem_post(&arrival);
    errno = saved;
    return;
  }
  std::signal(signal, SIG_DFL);  // the second one stops at once
  std::raise(signal);
}

std::int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

StopSignals::StopSignals(double grace_seconds, std::function<void(int, double)> at_once)
    : grace_(grace_seconds), at_once_(std::move(at_once)), ready_at_(kNever) {
  arrived_signal = 0;
  ::sem_init(&arrival, 0, 0);
  watcher_ = std::thread([this] { watch(); });
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    ::sigaction(kSignals[i], nullptr, &before_[i]);
    if (before_[i].sa_handler == SIG_IGN) continue;
    struct sigaction ours = {};
    ours.sa_handler = note_signal;
    ours.sa_flags = SA_RESTART;
    ::sigaction(kSignals[i], &ours, nullptr);
  }
}

StopSignals::~StopSignals() {
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    ::sigaction(kSignals[i], &before_[i], nullptr);
  }
  int none = 0;
  arrived_signal.compare_exchange_strong(none, -1);  // none comes any more
  ::sem_post(&arrival);
  watcher_.join();
  ::sem_destroy(&arrival);
}

int StopSignals::arrived() { return std::max(0, arrived_signal.load()); }

void StopSignals::expect(double seconds) {
  constexpr double kMostSeconds = 1e9;
  ready_at_ = seconds < kMostSeconds ? now() + static_cast<std::int64_t>(seconds * 1e9) : kNever;
}

void StopSignals::watch() {
  while (::sem_wait(&arrival) != 0) {
  }
  const int signal = arrived();
  if (signal == 0) return;
  const std::int64_t ready_at = ready_at_;
  const bool never = ready_at == kNever;
  const double seconds = never ? std::numeric_limits<double>::infinity()
                               : std::max(0.0, static_cast<double>(ready_at - now()) * 1e-9);
  if (never || (signal != SIGINT && seconds > grace_)) at_once_(signal, seconds);
}

}  // namespace snug
