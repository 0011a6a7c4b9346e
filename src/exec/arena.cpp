#include "exec/arena.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "core/error.h"
#include "core/text.h"
#include "exec/host_memory.h"
#include "plan/placement.h"

namespace snug {
namespace {

constexpr std::int64_t kHugePage = std::int64_t{2} << 20;
constexpr std::int64_t kPopulateChunk = std::int64_t{64} << 20;

std::int64_t page_bytes() { return sysconf(_SC_PAGESIZE); }

/// Makes every page of the range present.
void populate(std::byte* data, std::int64_t bytes) {
#ifdef MADV_POPULATE_WRITE
  if (madvise(data, static_cast<std::size_t>(bytes), MADV_POPULATE_WRITE) == 0) return;
  if (errno == ENOMEM || errno == EFAULT) {
    user_error("cannot populate {} of memory: {}. Lower device_memory.", binary_bytes(bytes),
               std::strerror(errno));
  }
#endif
  for (std::int64_t at = 0; at < bytes; at += page_bytes()) {
    static_cast<volatile std::byte*>(data)[at] = std::byte{0};
  }
}

class FileHandle {
 public:
  explicit FileHandle(int descriptor) : descriptor_(descriptor) {}
  ~FileHandle() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  FileHandle(const FileHandle&) = delete;
  FileHandle& operator=(const FileHandle&) = delete;
  int get() const { return descriptor_; }

 private:
  int descriptor_;
};

}  // namespace

Arena::Arena(std::int64_t bytes, std::int64_t alignment) : bytes_(bytes) {
  if (bytes == 0) return;
  const std::int64_t page = page_bytes();
  const std::int64_t body = align_up(bytes, page);
  reserved_bytes_ = static_cast<std::size_t>(body + 2 * page + alignment);
  void* address =
      mmap(nullptr, reserved_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) {
    user_error("cannot reserve {} of address space: {}. Raise `ulimit -v`.", binary_bytes(body),
               std::strerror(errno));
  }
  reserved_ = static_cast<std::byte*>(address);
  const auto start =
      reinterpret_cast<std::uintptr_t>(reserved_) + static_cast<std::uintptr_t>(page);
  const auto step = static_cast<std::uintptr_t>(alignment);
  data_ = reserved_ + page + ((start + step - 1) / step * step - start);
}

/// Gives the body between the guard pages memory (file < 0) or the file's blocks.
void Arena::open(int file) {
  if (bytes_ == 0) return;
  const auto body = static_cast<std::size_t>(align_up(bytes_, page_bytes()));
  const int flags = file < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
  if (mmap(data_, body, PROT_READ | PROT_WRITE, MAP_FIXED | flags, file, 0) == MAP_FAILED) {
    user_error("cannot reserve {} of memory: {}. Lower device_memory.", binary_bytes(bytes_),
               std::strerror(errno));
  }
}

Arena Arena::in_memory(std::int64_t bytes, ThreadPool& pool) {
  const bool huge = bytes >= kHugePage;
  Arena arena(bytes, huge ? kHugePage : page_bytes());
  arena.open(-1);
  const std::int64_t body = align_up(bytes, page_bytes());
  if (huge) {
    // A hint: without huge pages the arena works as well. The tail stays in small pages.
    madvise(arena.data_, static_cast<std::size_t>(body / kHugePage * kHugePage), MADV_HUGEPAGE);
  }
  pool.run((body + kPopulateChunk - 1) / kPopulateChunk, [&](std::int64_t chunk, int) {
    const std::int64_t begin = chunk * kPopulateChunk;
    populate(arena.data_ + begin, std::min(kPopulateChunk, body - begin));
  });
  return arena;
}

Arena Arena::on_disk(std::int64_t bytes, const std::filesystem::path& asked) {
  Arena arena(bytes, page_bytes());
  if (bytes == 0) return arena;
  std::error_code error;
  const std::filesystem::path folder =
      asked.empty() ? std::filesystem::temp_directory_path(error) : asked;
  if (error) {
    user_error("the system's folder for temporary files is not there: {}. Set TMPDIR to one.",
               error.message());
  }
  const FileHandle file(::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (file.get() < 0) {
    user_error("cannot make the offload file in '{}': {}.", folder.string(), std::strerror(errno));
  }
  const std::int64_t body = align_up(bytes, page_bytes());
  if (const int failed = posix_fallocate(file.get(), 0, body); failed != 0) {
    user_error("cannot reserve {} for offload in '{}': {}. Free space there.", decimal_bytes(body),
               folder.string(), std::strerror(failed));
  }
  arena.open(file.get());
  return arena;
}

Arena Arena::on_device(Device& device, Space space, std::int64_t bytes) {
  Arena arena;
  arena.data_ = device.reserve(space, bytes);
  arena.bytes_ = bytes;
  return arena;
}

Arena::~Arena() { release(); }

Arena::Arena(Arena&& other) noexcept { *this = std::move(other); }

Arena& Arena::operator=(Arena&& other) noexcept {
  if (this == &other) return *this;
  release();
  reserved_ = std::exchange(other.reserved_, nullptr);
  reserved_bytes_ = std::exchange(other.reserved_bytes_, 0);
  data_ = std::exchange(other.data_, nullptr);
  bytes_ = std::exchange(other.bytes_, 0);
  return *this;
}

void Arena::release() noexcept {
  if (reserved_ != nullptr) munmap(reserved_, reserved_bytes_);
  reserved_ = nullptr;
}

namespace {

Arenas reserve_on_card(std::unique_ptr<Device> device, const Plan& plan,
                       const std::filesystem::path& folder) {
  const std::int64_t needed = plan.arena(Space::device).bytes;
  const std::int64_t free = device->free_bytes();
  if (needed > free) {
    user_error(
        "does not fit: the plan needs {} of {}, which has {} of {} left. Another process may hold "
        "the rest (nvidia-smi lists them); end it, or set device_memory={}.",
        binary_bytes(needed), device->card().name, binary_bytes(free),
        binary_bytes(device->card().memory_bytes), free + plan.target.card.overhead_bytes);
  }
  Arenas arenas;
  for (const Space space : {Space::device, Space::host}) {
    arenas.spaces[static_cast<std::size_t>(space)] =
        Arena::on_device(*device, space, plan.arena(space).bytes);
  }
  arenas.spaces[static_cast<std::size_t>(Space::disk)] =
      Arena::on_disk(plan.arena(Space::disk).bytes, folder);
  arenas.device = std::move(device);
  return arenas;
}

}  // namespace

Arenas reserve_arenas(const Plan& plan, ThreadPool& pool, const std::filesystem::path& folder) {
  const auto start = std::chrono::steady_clock::now();
  const auto timed = [&](Arenas arenas) {
    arenas.populate_seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return arenas;
  };
  const std::int64_t device = plan.arena(Space::device).bytes;
  const std::int64_t host = plan.arena(Space::host).bytes;
  const std::int64_t available = available_host_memory();
  if (auto card = open_device(plan.target)) {
    if (host > available) {
      user_error("does not fit: the plan needs {} of host memory, this machine has {} left.",
                 binary_bytes(host), binary_bytes(available));
    }
    return timed(reserve_on_card(std::move(card), plan, folder));
  }
  if (device + host > available) {
    user_error(
        "does not fit: the plan needs {}, this machine has {} left. Set device_memory={} or free "
        "memory.",
        binary_bytes(device + host), binary_bytes(available),
        std::max<std::int64_t>(0, available - host));
  }
  Arenas arenas;
  arenas.spaces[static_cast<std::size_t>(Space::device)] = Arena::in_memory(device, pool);
  arenas.spaces[static_cast<std::size_t>(Space::host)] = Arena::in_memory(host, pool);
  arenas.spaces[static_cast<std::size_t>(Space::disk)] =
      Arena::on_disk(plan.arena(Space::disk).bytes, folder);
  return timed(std::move(arenas));
}

}  // namespace snug
