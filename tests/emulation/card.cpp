// A card whose memory is the process's and whose queues run at once.

#include <algorithm>
#include <memory>
#include <vector>

#include "backend/cuda/probe.h"
#include "core/error.h"

namespace snug::cuda {
namespace {

class EmulatedCard final : public Device {
 public:
  explicit EmulatedCard(Card card) : card_(std::move(card)) {}
  const Card& card() const override { return card_; }
  std::string driver() const override { return "emulated"; }
  std::vector<std::string> remarks() const override { return {"emulated"}; }
  std::int64_t free_bytes() const override { return card_.memory_bytes; }

  std::byte* reserve(Space, std::int64_t bytes) override {
    constexpr std::size_t kAlign = 512;
    if (bytes == 0) return nullptr;
    memory_.push_back(std::make_unique<std::byte[]>(static_cast<std::size_t>(bytes) + kAlign));
    const auto address = reinterpret_cast<std::uintptr_t>(memory_.back().get());
    return memory_.back().get() + (kAlign - address % kAlign) % kAlign;
  }
  void write(std::byte* to, std::span<const std::byte> from) override {
    std::ranges::copy(from, to);
  }
  void read(std::span<std::byte> to, const std::byte* from) override {
    std::copy_n(from, to.size(), to.begin());
  }

  void* queue(Lane) override { return nullptr; }
  void reserve_events(std::int32_t) override {}
  void record(Lane, std::int32_t) override {}
  void wait(Lane, std::int32_t) override {}
  void finish() override {}
  void begin_recording() override { internal_error("an emulated card records nothing"); }
  std::int32_t end_recording() override { internal_error("an emulated card records nothing"); }
  void replay(std::int32_t) override { internal_error("an emulated card records nothing"); }

 private:
  Card card_;
  std::vector<std::unique_ptr<std::byte[]>> memory_;
};

}  // namespace

Card probe_card() {
  Card card = card_from_profile("rtx3060");
  card.measured = true;
  return card;
}

std::unique_ptr<Device> open_card(const Target& target) {
  return std::make_unique<EmulatedCard>(target.card);
}

}  // namespace snug::cuda
