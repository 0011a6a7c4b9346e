// GFLOP/s of the matrix products of a training step: gemm_bench [threads] [isa] [f32|bf16] [best
// of].

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "backend/cpu/gemm.h"
#include "core/error.h"

namespace snug {
namespace {

struct Linear {
  const char* model;
  std::int64_t tokens;
  std::int64_t out;
  std::int64_t in;
  int per_step;  // how often the shape occurs in a step
};

// Head shapes are one row chunk of the loss.
constexpr Linear kLinears[] = {
    {"smol135m", 2048, 576, 576, 60},  {"smol135m", 2048, 192, 576, 60},
    {"smol135m", 2048, 1536, 576, 60}, {"smol135m", 2048, 576, 1536, 30},
    {"smol135m", 512, 49152, 576, 4},  {"smol135m", 512, 576, 576, 0},
    {"smol135m", 512, 1536, 576, 0},   {"smol135m", 512, 576, 1536, 0},
    {"qwen0.5b", 1024, 896, 896, 48},  {"qwen0.5b", 1024, 128, 896, 48},
    {"qwen0.5b", 1024, 4864, 896, 48}, {"qwen0.5b", 1024, 896, 4864, 24},
    {"qwen0.5b", 128, 151936, 896, 8},
};

struct Setting {
  int threads = 2;
  Isa isa = Isa::avx2;
  DType dtype = DType::bf16;
  int best_of = 7;
  int shapes = 99;
};

// Storage that begins on a cache line, as operands in an arena do.
class AlignedBytes {
 public:
  explicit AlignedBytes(std::size_t bytes) : lines_((bytes + 63) / 64) {}
  std::byte* data() { return reinterpret_cast<std::byte*>(lines_.data()); }
  const std::byte* data() const { return reinterpret_cast<const std::byte*>(lines_.data()); }
  std::size_t size() const { return lines_.size() * 64; }

 private:
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<Line> lines_;
};

AlignedBytes noise(std::int64_t elements, DType dtype) {
  AlignedBytes bytes(static_cast<std::size_t>(elements * size_of(dtype)));
  const RandomStream random{.seed = 1, .stream = static_cast<std::uint64_t>(elements)};
  for (std::int64_t i = 0; i < elements; ++i) {
    const auto value =
        static_cast<float>(random.bits16(static_cast<std::uint64_t>(i % 4096))) / 65536.0F - 0.5F;
    if (dtype == DType::bf16) {
      reinterpret_cast<BFloat16*>(bytes.data())[i] = BFloat16(value);
    } else {
      reinterpret_cast<float*>(bytes.data())[i] = value;
    }
  }
  return bytes;
}

double best_seconds(int best_of, const std::function<void()>& body) {
  double best = 1e30;
  for (int i = 0; i < best_of; ++i) {
    const auto start = std::chrono::steady_clock::now();
    body();
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    best = std::min(best, time.count());
  }
  return best;
}

class Bench {
 public:
  explicit Bench(const Setting& setting) : setting_(setting), pool_(setting.threads) {}

  /// Prints a line and returns the seconds of the three products.
  double linear(const Linear& shape) {
    const auto [model, t, n, k, per_step] = shape;
    const DType dtype = setting_.dtype;
    AlignedBytes x = noise(t * k, dtype);
    AlignedBytes w = noise(n * k, dtype);
    AlignedBytes y = noise(t * n, dtype);
    AlignedBytes dx(x.size());
    AlignedBytes dw(w.size());
    const auto matrix = [&](const AlignedBytes& data, std::int64_t stride, bool along_k) {
      return GemmMatrix{data.data(), dtype, stride, along_k};
    };
    AlignedBytes out(y.size());
    const auto to = [&](AlignedBytes& data, std::int64_t stride) {
      GemmOutput output;
      output.data = data.data();
      output.dtype = dtype;
      output.stride = stride;
      return output;
    };
    const double forward = time(t, n, k, matrix(x, k, true), matrix(w, k, true), to(out, n));
    const double back_x = time(t, k, n, matrix(y, n, true), matrix(w, k, false), to(dx, k));
    const double back_w = time(n, k, t, matrix(y, n, false), matrix(x, k, false), to(dw, k));
    GemmOutput added = to(dw, k);
    added.accumulate = true;
    if (dtype == DType::bf16)
      added.rounding = {.random = {.seed = 1}, .row_elements = static_cast<std::uint64_t>(k)};
    const double added_w = time(n, k, t, matrix(y, n, false), matrix(x, k, false), added);
    const double flops =
        2e-9 * static_cast<double>(t) * static_cast<double>(n) * static_cast<double>(k);
    fmt::print(
        "{:9} T {:5} N {:6} K {:5}  forward {:5.0f}  dx {:5.0f}  dw {:5.0f}  dw+= {:5.0f} GFLOP/s  "
        " ms {:.3f} {:.3f} {:.3f} {:.3f}\n",
        model, t, n, k, flops / forward, flops / back_x, flops / back_w, flops / added_w,
        forward * 1e3, back_x * 1e3, back_w * 1e3, added_w * 1e3);
    return forward + back_x + back_w;
  }

  /// Prints the speed at which small_forward() reads w.
  void generation(std::int64_t rows, std::int64_t n, std::int64_t k) {
    const DType dtype = setting_.dtype;
    const AlignedBytes x = noise(rows * k, dtype);
    const AlignedBytes w = noise(n * k, dtype);
    AlignedBytes y = noise(rows * n, dtype);
    GemmOutput output;
    output.data = y.data();
    output.dtype = dtype;
    output.stride = n;
    const double seconds = best_seconds(setting_.best_of, [&] {
      small_forward(rows, n, k, {x.data(), dtype, k, true}, {w.data(), dtype, k, true}, output,
                    pool_);
    });
    fmt::print("generation T {} N {:6} K {:5}  {:.1f} GB/s\n", rows, n, k,
               1e-9 * static_cast<double>(n * k * size_of(dtype)) / seconds);
  }

 private:
  double time(std::int64_t m, std::int64_t n, std::int64_t k, const GemmMatrix& a,
              const GemmMatrix& b, const GemmOutput& output) {
    const GemmShape shape{m, n, k, a.dtype, b.dtype, a.k_contiguous, output.rounding.has_value()};
    const auto bytes =
        static_cast<std::size_t>(gemm_scratch(shape, setting_.isa, setting_.threads));
    AlignedBytes storage(bytes);
    const std::span<std::byte> scratch(storage.data(), bytes);
    return best_seconds(setting_.best_of,
                        [&] { gemm(m, n, k, a, b, output, setting_.isa, scratch, pool_); });
  }

  const Setting setting_;
  ThreadPool pool_;
};

int run(int argc, char** argv) {
  Setting setting{.isa = detect_isa()};
  if (argc > 1) setting.threads = std::atoi(argv[1]);
  if (argc > 2) setting.isa = isa_from_name(argv[2]).value_or(setting.isa);
  if (argc > 3) setting.dtype = dtype_from_name(argv[3]).value_or(setting.dtype);
  if (argc > 4) setting.best_of = std::atoi(argv[4]);
  if (argc > 5) setting.shapes = std::atoi(argv[5]);
  cap_isa(setting.isa);
  fmt::print("{} threads, {}, {}\n", setting.threads, name_of(setting.isa), name_of(setting.dtype));
  Bench bench(setting);
  std::string model;
  double step = 0;
  for (const Linear& shape : kLinears) {
    if (setting.shapes-- == 0) break;
    if (shape.model != model) step = 0;
    model = shape.model;
    step += bench.linear(shape) * shape.per_step;
    fmt::print("{:9} products of a step so far: {:.1f} ms\n", model, step * 1e3);
  }
  for (const std::int64_t rows : {1, 2, 8}) bench.generation(rows, 49152, 576);
  return 0;
}

}  // namespace
}  // namespace snug

int main(int argc, char** argv) { return snug::run(argc, argv); }
