#pragma once
// The memory a plan lies in: reserved and populated once, before step 1.

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>

#include "backend/device.h"
#include "core/thread_pool.h"
#include "plan/plan.h"

namespace snug {

/// Zeroed bytes with an inaccessible page before the first and after the last page.
class Arena {
 public:
  Arena() = default;
  /// Anonymous memory, every page present. The pool shares the work of populating it.
  static Arena in_memory(std::int64_t bytes, ThreadPool& pool);
  /// A nameless file in `folder` (empty: the system's for temporary files), its blocks reserved;
  /// goes away with the arena. UserError when the disk has no room.
  static Arena on_disk(std::int64_t bytes, const std::filesystem::path& folder);
  /// Memory that `device` reserved for `space` and owns.
  static Arena on_device(Device& device, Space space, std::int64_t bytes);
  ~Arena();
  Arena(Arena&& other) noexcept;
  Arena& operator=(Arena&& other) noexcept;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  std::byte* data() const { return data_; }
  std::int64_t bytes() const { return bytes_; }
  std::span<std::byte> span() const { return {data_, static_cast<std::size_t>(bytes_)}; }

 private:
  Arena(std::int64_t bytes, std::int64_t alignment);
  void open(int file);
  void release() noexcept;

  std::byte* reserved_ = nullptr;
  std::size_t reserved_bytes_ = 0;
  std::byte* data_ = nullptr;
  std::int64_t bytes_ = 0;
};

/// One arena a space.
struct Arenas {
  std::unique_ptr<Device> device;  ///< nullptr: the device arena is the process's own memory
  std::array<Arena, kSpaces> spaces;
  double populate_seconds = 0;

  const Arena& operator[](Space space) const { return spaces[static_cast<std::size_t>(space)]; }
};

/// Reserves what the plan needs, on the card of the plan's target where it has one. UserError,
/// before anything is reserved, when the machine or the card has not that much memory left.
/// `folder` holds the disk arena, where the plan has one; empty: the system's folder for temporary
/// files.
Arenas reserve_arenas(const Plan& plan, ThreadPool& pool, const std::filesystem::path& folder = {});

}  // namespace snug
