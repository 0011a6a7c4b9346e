// The threads of an emulated block take turns: the first that need not wait for others runs until
// it must; in the next block the last. So one warp is ahead of all others from barrier to barrier,
// and a barrier that is missing shows in the results.

#include <ucontext.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "backend/cuda/present/grid.cuh"
#include "core/error.h"

// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables): words of CUDA's language
Dimensions threadIdx, blockIdx, gridDim;

namespace snug::cuda::emulation {
namespace {

constexpr unsigned kWarp = 32;
constexpr std::size_t kStackBytes = std::size_t{256} << 10;

/// What a thread waits for: until all of `size` threads do.
struct Barrier {
  unsigned size = 0;
  unsigned waiting = 0;
};

struct Warp {
  Barrier all{kWarp};
  const void* values[kWarp] = {};
};

/// Runs threads one after the other, and stays with the one that waits.
struct Fiber {
  ucontext_t context{};
  std::unique_ptr<std::byte[]> stack = std::make_unique_for_overwrite<std::byte[]>(kStackBytes);
};

/// Fibers that run nothing now, kept from launch to launch.
std::vector<std::unique_ptr<Fiber>>& idle_fibers() {
  static std::vector<std::unique_ptr<Fiber>> idle;
  return idle;
}

struct Thread {
  std::unique_ptr<Fiber> fiber;  ///< while it runs or waits
  const Barrier* waits_for = nullptr;
};

class Block {
 public:
  Block(unsigned threads, std::int64_t bytes, const std::function<void()>& body)
      : body_(body), threads_(threads), warps_(threads / kWarp), all_{threads} {
    memory_.resize(static_cast<std::size_t>(bytes) / sizeof(uint4) + 1);
  }

  void run(bool backwards) {
    backwards_ = backwards;
    begun_ = done_ = released_ = 0;
    std::memset(memory_.data(), 0x7f, memory_.size() * sizeof(uint4));
    for (Thread* next = choose(); next != nullptr; next = choose()) {
      threadIdx.x = number_of(*next);
      if (next->fiber == nullptr) {
        next->fiber = idle_fiber();
      } else {
        --released_;
      }
      swapcontext(&scheduler_, &next->fiber->context);
    }
    check(done_ == threads_.size(), "threads of a block wait for each other at different places");
  }

  void wait(Barrier& barrier) {
    if (++barrier.waiting == barrier.size) {
      barrier.waiting = 0;
      for (Thread& thread : threads_) {
        if (thread.waits_for != &barrier) continue;
        thread.waits_for = nullptr;
        ++released_;
      }
      return;
    }
    Thread& thread = threads_[threadIdx.x];
    thread.waits_for = &barrier;
    swapcontext(&thread.fiber->context, &scheduler_);
  }
  void wait_for_all() { wait(all_); }

  Warp& warp() { return warps_[threadIdx.x / kWarp]; }
  std::byte* memory() { return reinterpret_cast<std::byte*>(memory_.data()); }

  static Block*& current() {
    static Block* block = nullptr;
    return block;
  }

 private:
  /// A fiber's life: the thread that it was given, then others while they come first and have not
  /// begun.
  static void main() {
    Block& block = *current();
    for (Thread* thread = &block.threads_[threadIdx.x];;) {
      ++block.begun_;
      block.body_();
      ++block.done_;
      std::unique_ptr<Fiber> fiber = std::move(thread->fiber);
      thread = block.choose();
      if (thread == nullptr || thread->fiber != nullptr) {
        idle_fibers().push_back(std::move(fiber));
        return;
      }
      threadIdx.x = block.number_of(*thread);
      thread->fiber = std::move(fiber);
    }
  }

  unsigned number_of(const Thread& thread) const {
    return static_cast<unsigned>(&thread - threads_.data());
  }

  /// Of the threads that can run the first, or the last; nullptr: none. Threads begin in that
  /// order.
  Thread* choose() {
    const auto at = [&](std::size_t i) -> Thread& {
      return threads_[backwards_ ? threads_.size() - 1 - i : i];
    };
    if (released_ == 0) return begun_ < threads_.size() ? &at(begun_) : nullptr;
    for (std::size_t i = 0; i < begun_; ++i) {
      Thread& thread = at(i);
      if (thread.fiber != nullptr && thread.waits_for == nullptr) return &thread;
    }
    internal_error("a released thread is gone");
  }

  std::unique_ptr<Fiber> idle_fiber() {
    std::unique_ptr<Fiber> fiber;
    if (idle_fibers().empty()) {
      fiber = std::make_unique<Fiber>();
    } else {
      fiber = std::move(idle_fibers().back());
      idle_fibers().pop_back();
    }
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack.get();
    fiber->context.uc_stack.ss_size = kStackBytes;
    fiber->context.uc_link = &scheduler_;
    makecontext(&fiber->context, main, 0);
    return fiber;
  }

  const std::function<void()>& body_;
  ucontext_t scheduler_{};
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  Barrier all_;
  std::vector<uint4> memory_;
  std::size_t begun_ = 0, done_ = 0;
  std::size_t released_ = 0;  ///< that could go on after a barrier
  bool backwards_ = false;
};

}  // namespace

void run(Grid grid, int threads, std::int64_t memory, const std::function<void()>& body) {
  Block block(static_cast<unsigned>(threads), memory, body);
  Block::current() = &block;
  gridDim = {grid.x, grid.y};
  for (unsigned y = 0; y < grid.y; ++y) {
    for (unsigned x = 0; x < grid.x; ++x) {
      blockIdx = {x, y};
      block.run((x + y) % 2 == 1);
    }
  }
  Block::current() = nullptr;
}

std::byte* memory_of_block() { return Block::current()->memory(); }

void exchange(const void* value, const std::function<void(const void* const (&values)[32])>& take) {
  Block& block = *Block::current();
  Warp& warp = block.warp();
  warp.values[threadIdx.x % kWarp] = value;
  block.wait(warp.all);
  take(warp.values);
  block.wait(warp.all);
}

}  // namespace snug::cuda::emulation

void __syncthreads() {  // NOLINT(bugprone-reserved-identifier)
  using snug::cuda::emulation::Block;
  Block::current()->wait_for_all();
}

int atomicMin(int* address, int value) {
  const int old = *address;
  *address = std::min(old, value);
  return old;
}
