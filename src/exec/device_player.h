#pragma once
// Plays programs on a card: kernels go to the queues of their lanes in list order, waits become
// events.

#include <cstdint>
#include <string>
#include <vector>

#include "backend/device.h"
#include "core/function_ref.h"
#include "exec/sequence.h"

namespace snug {

struct DevicePlayerOptions {
  /// From its second play on a program is remembered as a whole and replayed.
  bool replay = false;
  /// Each instruction is waited for: an error names it, times can be measured.
  bool one_by_one = false;
};

class DevicePlayer {
 public:
  /// `plan` and `sequences` must outlive the player.
  DevicePlayer(const Plan& plan, const Sequences& sequences, Device& device,
               DevicePlayerOptions options);

  /// Plays a program to its end; `run` gives one step, whose operands lie in `operands`, to the
  /// queue of its lane. DeviceError names the instruction, its tensors and where the plan has them,
  /// or the program where it is not known.
  void play(std::int32_t program, std::span<Operand> operands,
            FunctionRef<void(const Step&, void* queue)> run);

 private:
  /// What a program needs of the device's events.
  struct Marks {
    std::vector<std::int32_t> recorded;    ///< by instruction: the event behind it, or -1
    std::vector<std::int32_t> waited_for;  ///< by instruction: the event to wait for, or -1
    std::vector<Lane> lanes;               ///< those other than compute that it uses
    std::int32_t plays = 0;
    std::int32_t recording = -1;
  };

  Marks marks_of(std::int32_t program) const;
  void give(std::int32_t program, std::span<Operand> operands,
            FunctionRef<void(const Step&, void* queue)> run);
  void run_step(std::int32_t program, const Step& step,
                FunctionRef<void(const Step&, void* queue)> run);
  std::string describe(std::int32_t program, const Step& step) const;

  const Plan& plan_;
  const Sequences& sequences_;
  Device& device_;
  DevicePlayerOptions options_;
  std::vector<Marks> marks_;
  std::int32_t fork_ = 0;  ///< events of the lanes' start and end follow those of instructions
};

}  // namespace snug
