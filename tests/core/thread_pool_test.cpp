#include "core/thread_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

#include "core/error.h"

namespace snug {
namespace {

class ThreadPoolTest : public testing::TestWithParam<int> {};

TEST_P(ThreadPoolTest, RunsEveryIndexOnce) {
  ThreadPool pool(GetParam());
  ASSERT_EQ(pool.threads(), GetParam());
  for (const std::int64_t count : {0, 1, 2, 7, 63, 1000, 5000}) {
    std::vector<int> calls(static_cast<std::size_t>(count), 0);
    std::atomic<bool> bad_worker{false};
    pool.run(count, [&](std::int64_t index, int worker) {
      ++calls[static_cast<std::size_t>(index)];
      if (worker < 0 || worker >= pool.threads()) bad_worker = true;
    });
    EXPECT_FALSE(bad_worker);
    EXPECT_EQ(std::count(calls.begin(), calls.end(), 1), count);
  }
}

TEST_P(ThreadPoolTest, TakesManyShortLoops) {
  ThreadPool pool(GetParam());
  std::vector<std::int64_t> sums(static_cast<std::size_t>(GetParam()), 0);
  for (int loop = 0; loop < 3000; ++loop) {
    pool.run(3, [&](std::int64_t index, int worker) {
      sums[static_cast<std::size_t>(worker)] += index + 1;
    });
  }
  EXPECT_EQ(std::accumulate(sums.begin(), sums.end(), std::int64_t{0}), 3000 * 6);
}

TEST_P(ThreadPoolTest, WakesSleepers) {
  ThreadPool pool(GetParam());
  for (int loop = 0; loop < 3; ++loop) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    // No index returns before all workers hold one: only a woken pool gets past this.
    std::atomic<int> arrived{0};
    pool.run(pool.threads(), [&](std::int64_t, int) {
      ++arrived;
      while (arrived < pool.threads()) std::this_thread::yield();
    });
    EXPECT_EQ(arrived, pool.threads());
  }
}

TEST_P(ThreadPoolTest, ForwardsAnException) {
  ThreadPool pool(GetParam());
  for (int loop = 0; loop < 20; ++loop) {
    std::atomic<int> calls{0};
    EXPECT_THROW(pool.run(1000,
                          [&](std::int64_t index, int) {
                            ++calls;
                            if (index % 100 == 37) user_error("index {}", index);
                          }),
                 UserError);
    EXPECT_LT(calls, 1000);
  }
  std::atomic<int> calls{0};
  pool.run(10, [&](std::int64_t, int) { ++calls; });
  EXPECT_EQ(calls, 10);
}

TEST_P(ThreadPoolTest, RefusesALoopInsideALoop) {
  ThreadPool pool(GetParam());
  EXPECT_THROW(pool.run(2, [&](std::int64_t, int) { pool.run(2, [](std::int64_t, int) {}); }),
               InternalError);
}

INSTANTIATE_TEST_SUITE_P(Threads, ThreadPoolTest, testing::Values(1, 2, 5));

TEST(ThreadPool, NeedsAThread) { EXPECT_THROW(ThreadPool(0), InternalError); }

}  // namespace
}  // namespace snug
