// Memory bandwidth as McCalpin's STREAM triad counts it: a[i] = b[i] + s * c[i], 24 bytes an
// element. Usage: triad [threads]. Prints GB/s: the best of ten passes over arrays larger than any
// cache.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <thread>
#include <vector>

namespace {

constexpr std::int64_t kElements = std::int64_t{1} << 26;  // 512 MiB an array
constexpr int kPasses = 10;

class Triad {
 public:
  explicit Triad(int threads)
      : threads_(threads), a_(kElements), b_(kElements, 1.0), c_(kElements, 2.0) {}

  double gigabytes_per_second() {
    double best = 0;
    for (int pass = 0; pass < kPasses; ++pass) {
      const auto start = std::chrono::steady_clock::now();
      pass_on_all_threads();
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
      best = std::max(best, 24.0 * kElements / seconds.count() / 1e9);
    }
    return best;
  }

  bool right() const { return a_.front() == 7.0 && a_.back() == 7.0; }

 private:
  void pass_on_all_threads() {
    std::vector<std::thread> workers;
    for (int worker = 0; worker < threads_; ++worker) {
      workers.emplace_back([this, worker] {
        const std::int64_t end = kElements * (worker + 1) / threads_;
        for (std::int64_t i = kElements * worker / threads_; i < end; ++i) {
          a_[i] = b_[i] + 3.0 * c_[i];
        }
      });
    }
    for (std::thread& worker : workers) worker.join();
  }

  int threads_;
  std::vector<double> a_, b_, c_;
};

}  // namespace

int main(int argc, char** argv) {
  try {
    const int threads = argc > 1 ? std::max(1, std::atoi(argv[1])) : 1;
    Triad triad(threads);
    std::printf("%.1f\n", triad.gigabytes_per_second());
    return triad.right() ? 0 : 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "triad: %s\n", error.what());
    return 2;
  }
}
