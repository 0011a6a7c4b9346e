// A card by the CUDA run time.

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <array>
#include <cstdlib>
#include <vector>

#include "backend/cuda/blas.h"
#include "backend/cuda/present/blaslt.h"
#include "backend/cuda/present/handles.h"
#include "backend/cuda/present/queue.h"
#include "backend/cuda/probe.h"
#include "core/error.h"
#include "core/text.h"

namespace snug::cuda {

/// Whether this build has code for the card; in a .cu file.
cudaError_t find_code();

namespace {

constexpr std::size_t kLaneCount = 5;

std::string text_of(cudaError_t status) {
  return fmt::format("{} ({})", cudaGetErrorString(status), cudaGetErrorName(status));
}

std::string version_text(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

/// Throws UserError for what keeps this process from using a card at all.
void check_usable(cudaError_t status) {
  if (status == cudaSuccess) return;
  int driver = 0;
  int runtime = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  if (driver == 0) {
    user_error(
        "device=cuda: there is no NVIDIA driver on this machine. Install one (nvidia-smi must list "
        "the card), or plan for a card that is elsewhere with device_profile=NAME.");
  }
  if (status == cudaErrorInsufficientDriver) {
    user_error(
        "device=cuda: the NVIDIA driver knows CUDA {}, this build needs {}. Update the driver.",
        version_text(driver), version_text(runtime));
  }
  if (status == cudaErrorNoDevice) {
    user_error(
        "device=cuda: the NVIDIA driver finds no card. Look at nvidia-smi and "
        "CUDA_VISIBLE_DEVICES.");
  }
  user_error("device=cuda: the card cannot be used: {}.", text_of(status));
}

/// The rates of the profile of the same card; where there is none, what the driver says of memory.
void add_rates(Card& card) {
  if (const CardProfile* profile = profile_of(card)) {
    const Card known = card_from_profile(profile->name);
    card.bytes_per_second = known.bytes_per_second;
    card.half_flops = known.half_flops;
    card.float_flops = known.float_flops;
    return;
  }
  int kilohertz = 0;
  int bits = 0;
  check_usable(cudaDeviceGetAttribute(&kilohertz, cudaDevAttrMemoryClockRate, 0));
  check_usable(cudaDeviceGetAttribute(&bits, cudaDevAttrGlobalMemoryBusWidth, 0));
  card.bytes_per_second = 2.0 * kilohertz * 1e3 * bits / 8;  // two transfers a clock
}

class CardDevice final : public Device {
 public:
  explicit CardDevice(Card card) : card_(std::move(card)) {
    for (std::size_t lane = 0; lane < kLaneCount; ++lane) {
      cudaStream_t stream = nullptr;
      check_call(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
      streams_[lane].reset(stream);
      queues_[lane].stream = stream;
    }
    queues_[at(Lane::compute)].library = library_.get();
  }

  const Card& card() const override { return card_; }

  std::string driver() const override {
    int driver = 0;
    int runtime = 0;
    check_call(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
    check_call(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
    return fmt::format("CUDA {}, driver for {}", version_text(runtime), version_text(driver));
  }

  std::int64_t free_bytes() const override {
    std::size_t free = 0;
    std::size_t total = 0;
    check_call(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
    return static_cast<std::int64_t>(free);
  }

  std::byte* reserve(Space space, std::int64_t bytes) override {
    if (bytes == 0) return nullptr;
    return space == Space::device ? reserve_on_card(bytes) : reserve_pinned(bytes);
  }

  void write(std::byte* to, std::span<const std::byte> from) override {
    copy(to, from.data(), from.size(), cudaMemcpyHostToDevice);
  }
  void read(std::span<std::byte> to, const std::byte* from) override {
    copy(to.data(), from, to.size(), cudaMemcpyDeviceToHost);
  }

  std::vector<std::string> remarks() const override { return library_->refused(); }

  void* queue(Lane lane) override { return &queues_[at(lane)]; }

  void reserve_events(std::int32_t count) override {
    while (events_.size() < static_cast<std::size_t>(count)) {
      cudaEvent_t event = nullptr;
      check_call(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreate");
      events_.emplace_back(event);
    }
  }
  void record(Lane lane, std::int32_t event) override {
    check_call(cudaEventRecord(events_.at(static_cast<std::size_t>(event)).get(), stream(lane)),
               "cudaEventRecord");
  }
  void wait(Lane lane, std::int32_t event) override {
    check_call(
        cudaStreamWaitEvent(stream(lane), events_.at(static_cast<std::size_t>(event)).get(), 0),
        "cudaStreamWaitEvent");
  }
  void finish() override {
    for (const Stream& stream : streams_) {
      check_call(cudaStreamSynchronize(stream.get()), "cudaStreamSynchronize");
    }
  }

  void begin_recording() override {
    check_call(cudaStreamBeginCapture(stream(Lane::compute), cudaStreamCaptureModeThreadLocal),
               "cudaStreamBeginCapture");
  }
  std::int32_t end_recording() override {
    cudaGraph_t graph = nullptr;
    check_call(cudaStreamEndCapture(stream(Lane::compute), &graph), "cudaStreamEndCapture");
    const Graph owner(graph);
    cudaGraphExec_t exec = nullptr;
    check_call(cudaGraphInstantiate(&exec, graph, 0), "cudaGraphInstantiate");
    recordings_.emplace_back(exec);
    return static_cast<std::int32_t>(recordings_.size()) - 1;
  }
  void replay(std::int32_t recording) override {
    check_call(cudaGraphLaunch(recordings_.at(static_cast<std::size_t>(recording)).get(),
                               stream(Lane::compute)),
               "cudaGraphLaunch");
  }

 private:
  static std::size_t at(Lane lane) { return static_cast<std::size_t>(lane); }
  cudaStream_t stream(Lane lane) const { return streams_[at(lane)].get(); }

  /// On a lane of our own: those do not wait for the default stream, where a copy or a fill may
  /// still be under way when its call returns.
  void copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
    finish();
    check_call(cudaMemcpyAsync(to, from, bytes, kind, stream(Lane::compute)), "cudaMemcpyAsync");
    finish();
  }

  std::byte* reserve_on_card(std::int64_t bytes) {
    void* data = nullptr;
    const cudaError_t status = cudaMalloc(&data, static_cast<std::size_t>(bytes));
    if (status == cudaErrorMemoryAllocation) {
      user_error("{}: {} of memory cannot be reserved, {} of {} are free. {}", card_.name,
                 binary_bytes(bytes), binary_bytes(free_bytes()), binary_bytes(card_.memory_bytes),
                 "Another process may hold the rest (nvidia-smi lists them).");
    }
    check_call(status, "cudaMalloc");
    card_bytes_.emplace_back(static_cast<std::byte*>(data));
    check_call(cudaMemsetAsync(data, 0, static_cast<std::size_t>(bytes), stream(Lane::compute)),
               "cudaMemsetAsync");
    finish();
    return static_cast<std::byte*>(data);
  }

  std::byte* reserve_pinned(std::int64_t bytes) {
    void* data = nullptr;
    const cudaError_t status =
        cudaHostAlloc(&data, static_cast<std::size_t>(bytes), cudaHostAllocDefault);
    if (status == cudaErrorMemoryAllocation) {
      user_error("{} of host memory cannot be pinned for the card. Free memory, or offload less.",
                 binary_bytes(bytes));
    }
    check_call(status, "cudaHostAlloc");
    pinned_bytes_.emplace_back(static_cast<std::byte*>(data));
    std::fill_n(pinned_bytes_.back().get(), bytes, std::byte{0});
    return pinned_bytes_.back().get();
  }

  Card card_;
  std::unique_ptr<Blas> library_ = make_blas();
  std::array<Stream, kLaneCount> streams_;
  std::array<Queue, kLaneCount> queues_{};
  std::vector<Event> events_;
  std::vector<GraphExec> recordings_;
  std::vector<CardBytes> card_bytes_;
  std::vector<PinnedBytes> pinned_bytes_;
};

}  // namespace

void check_call(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  throw DeviceError(fmt::format("{}: {}. The last checkpoint is kept.", call, text_of(status)));
}

void check_launch() { check_call(cudaGetLastError(), "launch"); }

Card probe_card() {
  // Code is loaded now rather than at first use, so that what it takes is known before the plan.
  setenv("CUDA_MODULE_LOADING", "EAGER", 0);
  int count = 0;
  check_usable(cudaGetDeviceCount(&count));
  check_usable(count == 0 ? cudaErrorNoDevice : cudaSetDevice(0));
  cudaDeviceProp properties{};
  check_usable(cudaGetDeviceProperties(&properties, 0));
  if (find_code() == cudaErrorNoKernelImageForDevice) {
    user_error(
        "device=cuda: this build has code for compute capabilities {}, {} has {}.{}. Build with "
        "./dev build --cuda --arch {}{}.",
        SNUG_CUDA_ARCHITECTURES, static_cast<const char*>(properties.name), properties.major,
        properties.minor, properties.major, properties.minor);
  }
  const auto library = make_blas();  // what it takes counts
  std::size_t free = 0;
  std::size_t total = 0;
  check_usable(cudaMemGetInfo(&free, &total));
  Card card{.name = static_cast<const char*>(properties.name),
            .compute = properties.major * 10 + properties.minor,
            .multiprocessors = properties.multiProcessorCount,
            .memory_bytes = static_cast<std::int64_t>(total),
            .shared_bytes = static_cast<std::int64_t>(properties.sharedMemPerBlockOptin),
            .overhead_bytes = static_cast<std::int64_t>(total - free),
            .measured = true};
  add_rates(card);
  return card;
}

std::unique_ptr<Device> open_card(const Target& target) {
  const Card card = probe_card();
  if (card.compute != target.card.compute) {
    user_error(
        "device_profile={} is not the card of this machine ({}). Leave device_profile out to run "
        "here.",
        target.card.name, describe(card));
  }
  return std::make_unique<CardDevice>(card);
}

}  // namespace snug::cuda
