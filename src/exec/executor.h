#pragma once
// Plays the programs of a plan.

#include <array>
#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "core/error.h"
#include "exec/arena.h"
#include "exec/debug_player.h"
#include "exec/device_player.h"
#include "exec/host_windows.h"
#include "exec/sequence.h"
#include "plan/plan.h"

namespace snug {

struct ExecutorOptions {
  bool profile = false;     ///< measure the time of each kind of op
  DebugOptions debug = {};  ///< any of them: programs run on one thread, in list order
  bool replay = false;      ///< on a card: remember a program and replay it (DevicePlayerOptions)
};

struct OpTime {
  Op op{};
  std::int64_t calls = 0;
  double seconds = 0;
};

/// Owns the arenas and what kernels prepare. The compute lane runs on the caller's thread and the
/// pool; each other lane on a thread of its own; on a card all lanes are queues. play() allocates
/// nothing.
class Executor {
 public:
  /// Prepares every kernel. `plan` and `pool` must outlive the executor.
  Executor(const Plan& plan, Arenas arenas, ThreadPool& pool, ExecutorOptions options = {})
      : Executor(plan, Sequences(plan), std::move(arenas), pool, options) {}
  /// The same from sequences of that plan. In the process's own memory and without `debug`, the
  /// plan may since have been reduced to its ports.
  Executor(const Plan& plan, Sequences sequences, Arenas arenas, ThreadPool& pool,
           ExecutorOptions options = {});
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  const Plan& plan() const { return plan_; }
  const Arenas& arenas() const { return arenas_; }

  /// Plays a program to its end on all lanes. Rethrows the first error of a kernel once every lane
  /// has stopped; values are undefined then. One call at a time.
  void play(std::int32_t program);

  /// The bytes of a dense value as the host reads and writes them: the arena's own, or for a
  /// card's memory a copy that the next program sees (exec/host_windows.h says how long it lives).
  std::span<std::byte> bytes(const Location& location) const;
  /// The same of a run-, step- or session-scoped value.
  std::span<std::byte> bytes(std::string_view name) const { return bytes(plan_.location(name)); }
  /// The elements of a run-, step- or session-scoped value. T has the size of its element.
  template <class T>
  std::span<T> value(std::string_view name) const {
    return elements<T>(plan_.location(name), name);
  }
  /// The elements of a program's input (before it is played) or output (after it).
  template <class T>
  std::span<T> value(std::int32_t program, std::string_view name) const {
    return elements<T>(plan_.location(program, name), name);
  }

  /// What a card has to say of how programs ran so far, a line each; nothing elsewhere.
  std::vector<std::string> remarks() const;

  /// Highest address that a play of the program hands to a kernel, rounded up to the alignment.
  std::int64_t planned_peak(std::int32_t program, Space space) const {
    return sequences_[static_cast<std::size_t>(program)].highest(space);
  }
  /// Highest address handed to a kernel so far: operands and scratch, rounded up to the alignment.
  std::int64_t used_peak(Space space) const;
  std::int64_t used_peak(std::int32_t program, Phase phase, Space space) const;

  /// Time by kind of op since construction or the last reset, longest first. Empty without
  /// `profile`. Lanes run side by side: their times are not a sum of the step.
  std::vector<OpTime> profile() const;
  void reset_profile();

 private:
  static constexpr std::size_t kPhases = 4;
  static constexpr auto kOps = static_cast<std::size_t>(Op::count_);
  using PhasePeaks = std::array<std::array<std::int64_t, kSpaces>, kPhases>;

  /// What one lane alone touches.
  struct LaneState {
    std::vector<PhasePeaks> peaks;  ///< by program
    std::array<std::int64_t, kOps> calls{};
    std::array<std::int64_t, kOps> nanoseconds{};
    std::vector<Operand> operands;     ///< of the step that runs
    std::unique_ptr<ThreadPool> pool;  ///< of lanes other than compute
    std::thread thread;
    /// Index of the lane's last finished instruction plus one; kAllDone when it has stopped.
    alignas(64) std::atomic<std::int32_t> finished{0};
  };

  template <class T>
  std::span<T> elements(const Location& location, std::string_view name) const {
    const OperandLayout& layout = location.layout;
    check(sizeof(T) == static_cast<std::size_t>(size_of(layout.type.dtype)),
          "'{}' has elements of {}", name, name_of(layout.type.dtype));
    check(extent_bytes(layout) == layout.type.bytes(), "'{}' is not dense", name);
    return {reinterpret_cast<T*>(bytes(location).data()),
            static_cast<std::size_t>(layout.type.shape.elements())};
  }

  std::byte* address(const Location& location) const {
    return arenas_[location.space].data() + location.offset;
  }
  void start_player();
  void start_lanes();
  void lane_main(Lane lane);
  void play_lane(const Sequence& sequence, Lane lane);
  void play_all_lanes(const Sequence& sequence);
  void wait_for(Lane lane, std::int32_t finished);
  void run_step(const Step& step, LaneState& state, ThreadPool& pool, void* queue = nullptr);
  void note_error() noexcept;
  LaneState& state(Lane lane) { return lanes_[static_cast<std::size_t>(lane)]; }

  const Plan& plan_;
  Arenas arenas_;
  ThreadPool& pool_;
  ExecutorOptions options_;
  Sequences sequences_;
  std::unique_ptr<DebugPlayer> debug_;
  std::unique_ptr<DevicePlayer> device_player_;  ///< nullptr: the arenas are the process's own
  std::unique_ptr<HostWindows> windows_;         ///< beside it
  std::array<LaneState, kLanes> lanes_;

  // What lanes other than compute are told to play.
  std::int32_t program_ = -1;
  std::atomic<std::uint32_t> generation_{0};
  std::atomic<bool> stop_{false};
  std::atomic<bool> failed_{false};
  std::exception_ptr error_;
};

}  // namespace snug
