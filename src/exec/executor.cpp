#include "exec/executor.h"

#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

namespace snug {
namespace {

constexpr std::int32_t kAllDone = std::numeric_limits<std::int32_t>::max();
constexpr int kSpins = 2000;  // some tens of microseconds before a lane sleeps

constexpr std::array<Lane, kLanes - 1> kOtherLanes = {Lane::copy_in, Lane::copy_out, Lane::disk,
                                                      Lane::comm};

}  // namespace

Executor::Executor(const Plan& plan, Sequences sequences, Arenas arenas, ThreadPool& pool,
                   ExecutorOptions options)
    : plan_(plan),
      arenas_(std::move(arenas)),
      pool_(pool),
      options_(options),
      sequences_(std::move(sequences)) {
  sequences_.set_arenas(arenas_);
  for (LaneState& lane : lanes_) lane.peaks.resize(plan.programs.size());
  state(Lane::compute).operands.resize(sequences_.most_operands());
  if (arenas_.device) {
    start_player();
  } else if (options_.debug.any()) {
    debug_ = std::make_unique<DebugPlayer>(plan_, arenas_, options_.debug);
  } else {
    start_lanes();
  }
}

Executor::~Executor() {
  stop_.store(true, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (LaneState& lane : lanes_) {
    if (lane.thread.joinable()) lane.thread.join();
  }
}

void Executor::start_player() {
  check(!options_.debug.any(), "a card's memory cannot be watched byte by byte");
  windows_ = std::make_unique<HostWindows>(*arenas_.device);
  device_player_ = std::make_unique<DevicePlayer>(
      plan_, sequences_, *arenas_.device,
      DevicePlayerOptions{.replay = options_.replay, .one_by_one = options_.profile});
}

std::span<std::byte> Executor::bytes(const Location& location) const {
  const std::int64_t size = location.layout.type.bytes();
  std::byte* const at = address(location);
  if (windows_ && location.space == Space::device) return windows_->open(at, size);
  return {at, static_cast<std::size_t>(size)};
}

void Executor::start_lanes() {
  for (const Lane lane : kOtherLanes) {
    const bool used = std::any_of(sequences_.begin(), sequences_.end(),
                                  [&](const Sequence& s) { return !s.lane(lane).empty(); });
    if (!used) continue;
    state(lane).pool = std::make_unique<ThreadPool>(1);
    state(lane).operands.resize(sequences_.most_operands());
    state(lane).thread = std::thread([this, lane] { lane_main(lane); });
  }
}

void Executor::play(std::int32_t program) {
  check(program >= 0 && static_cast<std::size_t>(program) < sequences_.size(),
        "program {} of {} is played", program, sequences_.size());
  const Sequence& sequence = sequences_[static_cast<std::size_t>(program)];
  LaneState& compute = state(Lane::compute);
  program_ = program;
  if (device_player_) {
    windows_->flush();
    device_player_->play(program, compute.operands, [&](const Step& step, void* queue) {
      run_step(step, state(step.lane), pool_, queue);
    });
  } else if (debug_) {
    debug_->play(sequence, program, compute.operands,
                 [&](const Step& step) { run_step(step, compute, pool_); });
  } else if (sequence.compute_only()) {
    for (std::size_t i = 0; i < sequence.size(); ++i) {
      run_step(sequence.step(i, compute.operands), compute, pool_);
    }
  } else {
    play_all_lanes(sequence);
  }
}

void Executor::play_all_lanes(const Sequence& sequence) {
  for (LaneState& lane : lanes_) lane.finished.store(0, std::memory_order_relaxed);
  failed_.store(false, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  play_lane(sequence, Lane::compute);
  for (const Lane lane : kOtherLanes) {
    if (state(lane).thread.joinable()) wait_for(lane, kAllDone);
  }
  if (failed_.load(std::memory_order_acquire)) {
    std::rethrow_exception(std::exchange(error_, nullptr));
  }
}

void Executor::lane_main(Lane lane) {
  std::uint32_t seen = 0;
  while (true) {
    for (int spin = 0; spin < kSpins && generation_.load(std::memory_order_acquire) == seen;
         ++spin) {
      _mm_pause();
    }
    generation_.wait(seen, std::memory_order_acquire);
    seen = generation_.load(std::memory_order_acquire);
    if (stop_.load(std::memory_order_relaxed)) return;
    play_lane(sequences_[static_cast<std::size_t>(program_)], lane);
  }
}

void Executor::play_lane(const Sequence& sequence, Lane lane) {
  LaneState& own = state(lane);
  ThreadPool& pool = own.pool ? *own.pool : pool_;
  try {
    for (const std::int32_t index : sequence.lane(lane)) {
      const Step step = sequence.step(static_cast<std::size_t>(index), own.operands);
      for (const Wait& wait : step.waits) wait_for(wait.lane, wait.instruction + 1);
      if (failed_.load(std::memory_order_relaxed)) break;
      run_step(step, own, pool);
      own.finished.store(step.index + 1, std::memory_order_release);
      own.finished.notify_all();
    }
  } catch (...) {
    note_error();
  }
  own.finished.store(kAllDone, std::memory_order_release);
  own.finished.notify_all();
}

void Executor::wait_for(Lane lane, std::int32_t finished) {
  const std::atomic<std::int32_t>& counter = state(lane).finished;
  for (int spin = 0;; ++spin) {
    const std::int32_t now = counter.load(std::memory_order_acquire);
    if (now >= finished) return;
    if (spin < kSpins) {
      _mm_pause();
    } else {
      counter.wait(now, std::memory_order_acquire);
    }
  }
}

void Executor::run_step(const Step& step, LaneState& own, ThreadPool& pool, void* queue) {
  if (options_.profile) {
    const auto start = std::chrono::steady_clock::now();
    step.run(pool, queue);
    if (device_player_) arenas_.device->finish();
    const auto time = std::chrono::steady_clock::now() - start;
    const auto op = static_cast<std::size_t>(step.op);
    ++own.calls[op];
    own.nanoseconds[op] += std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
  } else {
    step.run(pool, queue);
  }
  auto& peaks = own.peaks[static_cast<std::size_t>(program_)][static_cast<std::size_t>(step.phase)];
  for (std::size_t s = 0; s < kSpaces; ++s) peaks[s] = std::max(peaks[s], step.highest[s]);
}

/// Keeps the first error of a play; the other lanes stop before their next instruction.
void Executor::note_error() noexcept {
  if (!failed_.exchange(true, std::memory_order_acq_rel)) error_ = std::current_exception();
}

std::vector<std::string> Executor::remarks() const {
  return arenas_.device ? arenas_.device->remarks() : std::vector<std::string>{};
}

std::int64_t Executor::used_peak(std::int32_t program, Phase phase, Space space) const {
  std::int64_t peak = 0;
  for (const LaneState& lane : lanes_) {
    peak = std::max(peak, lane.peaks[static_cast<std::size_t>(program)][static_cast<std::size_t>(
                              phase)][static_cast<std::size_t>(space)]);
  }
  return peak;
}

std::int64_t Executor::used_peak(Space space) const {
  std::int64_t peak = 0;
  for (std::size_t p = 0; p < sequences_.size(); ++p) {
    for (std::size_t phase = 0; phase < kPhases; ++phase) {
      peak =
          std::max(peak, used_peak(static_cast<std::int32_t>(p), static_cast<Phase>(phase), space));
    }
  }
  return peak;
}

std::vector<OpTime> Executor::profile() const {
  std::vector<OpTime> times;
  for (std::size_t op = 0; op < kOps; ++op) {
    OpTime row{static_cast<Op>(op), 0, 0};
    for (const LaneState& lane : lanes_) {
      row.calls += lane.calls[op];
      row.seconds += static_cast<double>(lane.nanoseconds[op]) * 1e-9;
    }
    if (row.calls > 0) times.push_back(row);
  }
  std::sort(times.begin(), times.end(), [](const OpTime& a, const OpTime& b) {
    return std::pair(-a.seconds, a.op) < std::pair(-b.seconds, b.op);
  });
  return times;
}

void Executor::reset_profile() {
  for (LaneState& lane : lanes_) {
    lane.calls.fill(0);
    lane.nanoseconds.fill(0);
  }
}

}  // namespace snug
