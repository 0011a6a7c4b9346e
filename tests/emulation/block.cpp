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

struct Thread {
  ucontext_t context{};
  std::unique_ptr<std::byte[]> stack = std::make_unique_for_overwrite<std::byte[]>(kStackBytes);
  const Barrier* waits_for = nullptr;
  bool done = false;
};

struct Warp {
  Barrier all{kWarp};
  const void* values[kWarp] = {};
};

class Block {
 public:
  Block(unsigned threads, std::int64_t bytes, const std::function<void()>& body)
      : body_(body), threads_(threads), warps_(threads / kWarp), all_{threads} {
    memory_.resize(static_cast<std::size_t>(bytes) / sizeof(uint4) + 1);
  }

  void run(bool backwards) {
    std::memset(memory_.data(), 0x7f, memory_.size() * sizeof(uint4));
    for (Thread& thread : threads_) begin(thread);
    while (backwards ? turn_of(threads_.rbegin(), threads_.rend())
                     : turn_of(threads_.begin(), threads_.end())) {
    }
    const bool done = std::ranges::all_of(threads_, &Thread::done);
    check(done, "threads of a block wait for each other at different places");
  }

  void wait(Barrier& barrier) {
    if (++barrier.waiting == barrier.size) {
      barrier.waiting = 0;
      for (Thread& thread : threads_) {
        if (thread.waits_for == &barrier) thread.waits_for = nullptr;
      }
      return;
    }
    Thread& thread = threads_[threadIdx.x];
    thread.waits_for = &barrier;
    swapcontext(&thread.context, &scheduler_);
  }
  void wait_for_all() { wait(all_); }

  Warp& warp() { return warps_[threadIdx.x / kWarp]; }
  std::byte* memory() { return reinterpret_cast<std::byte*>(memory_.data()); }

  static Block*& current() {
    static Block* block = nullptr;
    return block;
  }

 private:
  static void main() {
    Block& block = *current();
    block.body_();
    block.threads_[threadIdx.x].done = true;
  }

  void begin(Thread& thread) {
    thread.done = false;
    thread.waits_for = nullptr;
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.get();
    thread.context.uc_stack.ss_size = kStackBytes;
    thread.context.uc_link = &scheduler_;
    makecontext(&thread.context, main, 0);
  }

  /// Lets the first thread run that can; whether there was one.
  template <class Iterator>
  bool turn_of(const Iterator& begin, const Iterator& end) {
    const auto next =
        std::find_if(begin, end, [](const Thread& t) { return !t.done && t.waits_for == nullptr; });
    if (next == end) return false;
    threadIdx.x = static_cast<unsigned>(&*next - threads_.data());
    swapcontext(&scheduler_, &next->context);
    return true;
  }

  const std::function<void()>& body_;
  ucontext_t scheduler_{};
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  Barrier all_;
  std::vector<uint4> memory_;
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
