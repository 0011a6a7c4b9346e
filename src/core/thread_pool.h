#pragma once
// Persistent threads that share out the indices of one loop at a time.

#include <atomic>
#include <cstdint>
#include <exception>
#include <thread>
#include <vector>

#include "core/function_ref.h"

namespace snug {

/// `threads` workers, of which the caller of run() is number 0. Indices go to whichever worker is
/// free, so a body must compute the same bits for an index on any worker: split work by index only,
/// and use the worker number for scratch alone.
class ThreadPool {
 public:
  /// Starts threads - 1 threads; `threads` is at least 1.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  /// Calls body(index, worker) once for each index in [0, count), worker in [0, threads()), and
  /// returns when all calls have returned. Allocates nothing. The first exception that a body
  /// throws is thrown here once no body runs any more; indices not yet begun are then skipped.
  /// One run at a time: not from inside a body, nor from two threads at once (InternalError).
  void run(std::int64_t count, FunctionRef<void(std::int64_t index, int worker)> body);

 private:
  struct Job {
    const FunctionRef<void(std::int64_t, int)>* body = nullptr;
    std::int64_t count = 0;
    std::int64_t chunk = 1;
  };

  void worker_main(int worker);
  bool enter(std::uint32_t& seen);
  void leave();
  void take_chunks(int worker) noexcept;
  void wait_until_empty();

  Job job_;
  // Which job is open and how many workers are inside it: see the layout in thread_pool.cpp.
  alignas(64) std::atomic<std::uint32_t> state_{0};
  std::atomic<std::uint32_t> left_{0};  // changes when the last worker leaves a closed job
  std::atomic<bool> stop_{false};
  std::atomic<bool> busy_{false};
  alignas(64) std::atomic<std::int64_t> next_{0};
  std::atomic<bool> failed_{false};
  std::exception_ptr error_;
  std::vector<std::thread> workers_;
};

}  // namespace snug
