#include "core/thread_pool.h"

#include <immintrin.h>

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace snug {
namespace {

// state_: bits 0-14 workers inside the job, bit 15 open, bits 16-31 number of the job. A worker may
// enter only while the job is open, and run() closes the job and waits for zero inside: nobody
// touches job_ or next_ while the next job is being written, and no late sleeper is waited for.
constexpr std::uint32_t kInside = 0x7fffU;
constexpr std::uint32_t kOpen = 0x8000U;
constexpr std::uint32_t kNextJob = 0x10000U;

constexpr int kSpins = 5000;          // about 200 microseconds of pauses before sleeping
constexpr int kChunksPerWorker = 16;  // evens out unequal indices

std::uint32_t job_number(std::uint32_t state) { return state / kNextJob; }

}  // namespace

ThreadPool::ThreadPool(int threads) {
  check(threads >= 1 && threads < static_cast<int>(kInside), "a pool of {} threads", threads);
  workers_.reserve(static_cast<std::size_t>(threads - 1));
  for (int worker = 1; worker < threads; ++worker) {
    workers_.emplace_back([this, worker] { worker_main(worker); });
  }
}

ThreadPool::~ThreadPool() {
  stop_.store(true, std::memory_order_relaxed);
  state_.fetch_add(kNextJob, std::memory_order_release);
  state_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run(std::int64_t count, FunctionRef<void(std::int64_t, int)> body) {
  check(!busy_.exchange(true, std::memory_order_acquire), "a thread pool runs one loop at a time");
  job_ = {.body = &body,
          .count = count,
          .chunk = std::max<std::int64_t>(1, count / (std::int64_t{kChunksPerWorker} * threads()))};
  next_.store(0, std::memory_order_relaxed);
  const bool shared = count > 1 && !workers_.empty();
  if (shared) {
    const std::uint32_t job = state_.load(std::memory_order_relaxed) & ~(kNextJob - 1);
    state_.store((job + kNextJob) | kOpen, std::memory_order_release);
    state_.notify_all();
  }
  take_chunks(0);
  if (shared) {
    state_.fetch_and(~kOpen, std::memory_order_acq_rel);
    wait_until_empty();
  }
  std::exception_ptr error;
  if (failed_.exchange(false, std::memory_order_acquire)) error = std::exchange(error_, nullptr);
  busy_.store(false, std::memory_order_release);
  if (error) std::rethrow_exception(error);
}

void ThreadPool::worker_main(int worker) {
  std::uint32_t seen = 0;  // number of the last job taken part in
  while (!stop_.load(std::memory_order_relaxed)) {
    if (enter(seen)) {
      take_chunks(worker);
      leave();
    }
  }
}

// Waits for an open job that differs from `seen` and enters it; false after a wake without one.
bool ThreadPool::enter(std::uint32_t& seen) {
  std::uint32_t state = state_.load(std::memory_order_acquire);
  const auto fresh = [&] { return (state & kOpen) != 0 && job_number(state) != seen; };
  for (int spin = 0; spin < kSpins && !fresh(); ++spin) {
    _mm_pause();
    state = state_.load(std::memory_order_acquire);
  }
  if (!fresh()) {
    if (!stop_.load(std::memory_order_relaxed)) state_.wait(state, std::memory_order_acquire);
    return false;
  }
  if (!state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel)) return false;
  seen = job_number(state);
  return true;
}

void ThreadPool::leave() {
  const std::uint32_t after = state_.fetch_sub(1, std::memory_order_acq_rel) - 1;
  if ((after & (kInside | kOpen)) == 0) {
    left_.fetch_add(1, std::memory_order_release);
    left_.notify_one();
  }
}

void ThreadPool::take_chunks(int worker) noexcept {
  const Job job = job_;
  while (true) {
    const std::int64_t begin = next_.fetch_add(job.chunk, std::memory_order_relaxed);
    if (begin >= job.count) return;
    const std::int64_t end = std::min(job.count, begin + job.chunk);
    try {
      for (std::int64_t index = begin; index < end; ++index) (*job.body)(index, worker);
    } catch (...) {
      next_.store(job.count, std::memory_order_relaxed);
      if (!failed_.exchange(true, std::memory_order_acq_rel)) error_ = std::current_exception();
    }
  }
}

void ThreadPool::wait_until_empty() {
  for (int spin = 0;; ++spin) {
    const std::uint32_t left = left_.load(std::memory_order_acquire);
    if ((state_.load(std::memory_order_acquire) & kInside) == 0) return;
    if (spin < kSpins) {
      _mm_pause();
    } else {
      left_.wait(left, std::memory_order_acquire);
    }
  }
}

}  // namespace snug
