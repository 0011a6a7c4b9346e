// Playing on a card, with a card that is none: queues that run at once, memory of the process.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "core/error.h"
#include "exec/executor.h"
#include "exec/interpret.h"
#include "exec/kernels.h"
#include "plan/random_module.h"

namespace snug {
namespace {

using testing::HasSubstr;

/// What the player asked for, as short words.
using Log = std::vector<std::string>;

class PretendedDevice final : public Device {
 public:
  explicit PretendedDevice(Log& log) : log_(log) {}
  const Card& card() const override { return card_; }
  std::string driver() const override { return "none"; }
  std::vector<std::string> remarks() const override { return {"slow"}; }
  std::int64_t free_bytes() const override { return std::int64_t{1} << 30; }
  std::byte* reserve(Space, std::int64_t bytes) override {
    if (bytes == 0) return nullptr;
    // Aligned as a card's memory would be.
    memory_.push_back(std::make_unique<std::byte[]>(static_cast<std::size_t>(bytes) + 512));
    const auto address = reinterpret_cast<std::uintptr_t>(memory_.back().get());
    return memory_.back().get() + (512 - address % 512) % 512;
  }
  void write(std::byte* to, std::span<const std::byte> from) override {
    log_.emplace_back("write");
    std::copy(from.begin(), from.end(), to);
  }
  void read(std::span<std::byte> to, const std::byte* from) override {
    log_.emplace_back("read");
    std::copy_n(from, to.size(), to.begin());
  }
  void* queue(Lane) override { return nullptr; }
  void reserve_events(std::int32_t count) override { recorded_.assign(count, false); }
  void record(Lane, std::int32_t event) override {
    recorded_.at(static_cast<std::size_t>(event)) = true;
  }
  void wait(Lane, std::int32_t event) override {
    check(recorded_.at(static_cast<std::size_t>(event)), "waits for what nobody recorded");
  }
  void finish() override {
    if (broken) throw DeviceError("an illegal address");
  }
  void begin_recording() override { log_.emplace_back("begin"); }
  std::int32_t end_recording() override {
    log_.emplace_back("end");
    return 7;
  }
  void replay(std::int32_t recording) override {
    log_.push_back(fmt::format("replay {}", recording));
  }

  bool broken = false;

 private:
  Log& log_;
  Card card_{.name = "pretended", .compute = 80};
  std::vector<std::unique_ptr<std::byte[]>> memory_;
  std::vector<bool> recorded_;
};

struct Played {
  explicit Played(const StepModule& module, ExecutorOptions options = {})
      : plan(make_plan(module, source, {})) {
    auto device = std::make_unique<PretendedDevice>(log);
    pretended = device.get();
    Arenas arenas;
    for (const Space space : {Space::device, Space::host}) {
      arenas.spaces[static_cast<std::size_t>(space)] =
          Arena::on_device(*device, space, plan.arena(space).bytes);
    }
    arenas.device = std::move(device);
    executor = std::make_unique<Executor>(plan, std::move(arenas), pool, options);
  }

  Log log;
  ReferenceBackend source;
  Plan plan;
  ThreadPool pool{1};
  PretendedDevice* pretended = nullptr;
  std::unique_ptr<Executor> executor;
};

Numbers ramp(float start) {
  Numbers numbers(static_cast<std::size_t>(RandomProgram::kElements));
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = start + static_cast<float>(i) / 8;
  return numbers;
}

TEST(OnADevice, ValuesAreTheInterpreters) {
  const StepModule module = random_module(3, 60, true);
  Played played(module);
  Interpreter interpreter;
  interpreter.shared["shared.weight"] = ramp(1);
  std::ranges::copy(ramp(1), played.executor->value<float>("shared.weight").begin());
  float start = 0;
  for (const std::int32_t program : {0, 1, 2, 2, 3, 0, 1, 3}) {
    const Numbers x = ramp(start += 1);
    if (played.plan.has_location(program, "input/x")) {
      std::ranges::copy(x, played.executor->value<float>(program, "input/x").begin());
    }
    played.executor->play(program);
    for (const auto& [name, expected] : interpreter.play(played.plan.graph(program), x)) {
      const std::span<float> actual = played.executor->value<float>(program, name);
      EXPECT_TRUE(std::equal(actual.begin(), actual.end(), expected.begin())) << name;
    }
  }
}

TEST(OnADevice, ItsRemarksAreTold) {
  const StepModule module = random_module(3, 20, false);
  EXPECT_THAT(Played(module).executor->remarks(), testing::ElementsAre("slow"));
}

TEST(OnADevice, ASecondPlayIsRecordedAndLaterOnesReplayed) {
  const StepModule module = random_module(3, 20, false);
  Played played(module, {.replay = true});
  for (int i = 0; i < 3; ++i) played.executor->play(0);
  EXPECT_THAT(played.log, testing::ElementsAre("begin", "end", "replay 7", "replay 7"));
}

TEST(OnADevice, AWindowIsWrittenBackBeforeTheNextProgramAndOpenedOnce) {
  const StepModule module = random_module(3, 20, false);
  Played played(module);
  played.executor->value<float>("shared.weight")[0] = 1;
  played.executor->value<float>("shared.weight")[1] = 2;
  EXPECT_THAT(played.log, testing::ElementsAre("read"));
  played.executor->play(0);
  EXPECT_THAT(played.log, testing::ElementsAre("read", "write"));
  played.executor->play(0);
  EXPECT_THAT(played.log, testing::ElementsAre("read", "write"));
}

/// Reading a large model piece by piece does not leave many pieces on the host.
TEST(OnADevice, AFewLargeWindowsAreOpenAtATime) {
  Log log;
  PretendedDevice device(log);
  constexpr auto kSize = static_cast<std::int64_t>(HostWindows::kLarge) + 4;
  constexpr auto kMost = static_cast<std::int64_t>(HostWindows::kLargeWindows);
  std::byte* memory = device.reserve(Space::device, (kMost + 1) * kSize);
  HostWindows windows(device);
  for (std::int64_t i = 0; i <= kMost; ++i) {
    EXPECT_THAT(log, testing::Not(testing::Contains("write"))) << i;
    windows.open(memory + i * kSize, kSize)[0] = std::byte{1};
  }
  EXPECT_EQ(log.back(), "read");
  EXPECT_EQ(std::count(log.begin(), log.end(), "write"), 1);  // the first one's
  EXPECT_EQ(memory[0], std::byte{1});
  windows.open(memory, 4);
  windows.flush();
  EXPECT_EQ(std::count(log.begin(), log.end(), "write"), kMost + 2);
  EXPECT_EQ(memory[kMost * kSize], std::byte{1});
}

TEST(OnADevice, AnErrorNamesTheInstructionWhereEachIsWaitedFor) {
  const StepModule module = random_module(3, 20, false);
  Played played(module, {.profile = true});
  played.pretended->broken = true;
  try {
    played.executor->play(0);
    FAIL();
  } catch (const DeviceError& error) {
    EXPECT_THAT(error.what(), HasSubstr("program '"));
    EXPECT_THAT(error.what(), HasSubstr("instruction "));
    EXPECT_THAT(error.what(), HasSubstr("at byte "));
    EXPECT_THAT(error.what(), HasSubstr("an illegal address"));
  }
}

TEST(WithoutCuda, TheDeviceSaysWhatToDo) {
  DeviceSettings settings;
  settings.kind = DeviceKind::cuda;
  EXPECT_THROW(make_target(settings), UserError);
  settings.profile = "rtx4090";
  const Target target = make_target(settings);
  EXPECT_EQ(target.backend, "cuda");
  EXPECT_EQ(target.card.compute, 89);
  EXPECT_THROW(open_device(target), UserError);
  settings.kind = DeviceKind::cpu;
  EXPECT_THROW(make_target(settings), UserError);
}

}  // namespace
}  // namespace snug
