#pragma once
// A card's memory and queues, for back ends whose device arena is not the process's own memory.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ir/graph.h"
#include "plan/target.h"

namespace snug {

/// One card, held by this process. Errors of the card are DeviceError. Not for two threads at once.
class Device {
 public:
  virtual ~Device() = default;

  virtual const Card& card() const = 0;
  virtual std::string driver() const = 0;  ///< versions of driver, run time and libraries
  /// What a user should know of how programs ran so far, a line each: warnings.
  virtual std::vector<std::string> remarks() const = 0;
  /// Bytes of the card that nobody uses now.
  virtual std::int64_t free_bytes() const = 0;

  /// Zeroed bytes, on the card or (Space::host) pinned on the host; they live as long as the
  /// device. UserError with the numbers when there is no room. nullptr for 0 bytes.
  virtual std::byte* reserve(Space space, std::int64_t bytes) = 0;
  /// Copies, behind all that the queues hold, and waits until it is done.
  virtual void write(std::byte* to, std::span<const std::byte> from) = 0;
  virtual void read(std::span<std::byte> to, const std::byte* from) = 0;

  /// What KernelCall::queue is for a lane.
  virtual void* queue(Lane lane) = 0;
  /// Makes events 0..count-1 exist. Call it before playing: it may allocate.
  virtual void reserve_events(std::int32_t count) = 0;
  virtual void record(Lane lane, std::int32_t event) = 0;
  /// What the lane is given from now on runs after the last record of the event.
  virtual void wait(Lane lane, std::int32_t event) = 0;
  /// Waits until every queue is empty.
  virtual void finish() = 0;

  /// Between the two, what the queues are given is remembered and does not run; the number is for
  /// replay(). Between them lanes must start from, and end in, the compute lane by events.
  virtual void begin_recording() = 0;
  virtual std::int32_t end_recording() = 0;
  virtual void replay(std::int32_t recording) = 0;
};

/// The card was lost, ran out of something or met a wrong address: nothing on it can be trusted.
class DeviceError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The card of a target; nullptr when its back end computes in the process's own memory. UserError
/// when there is no such card, its driver is too old, or this build has no CUDA.
std::unique_ptr<Device> open_device(const Target& target);

}  // namespace snug
