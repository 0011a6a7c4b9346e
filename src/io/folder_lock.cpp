#include "io/folder_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <optional>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include "core/error.h"

namespace snug {
namespace {

namespace fs = std::filesystem;

std::string host() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "?";
}

struct Holder {
  long process = 0;
  std::string machine;
};

/// What the file says, once it says anything that can be true: a holder that has just come may not
/// have written its line yet.
std::optional<Holder> read_holder(int handle) {
  constexpr int kTries = 100;
  for (int i = 0; i < kTries; ++i) {
    std::array<char, 512> text{};
    const ssize_t size = ::pread(handle, text.data(), text.size(), 0);
    const std::string_view line(text.data(), size > 0 ? static_cast<std::size_t>(size) : 0);
    Holder holder;
    const auto [end, error] =
        std::from_chars(line.data(), line.data() + line.size(), holder.process);
    const auto used = static_cast<std::size_t>(end - line.data());
    if (error == std::errc() && used < line.size() && line.ends_with('\n')) {
      holder.machine = line.substr(used + 1, line.size() - used - 2);
      const bool here = holder.machine == host();
      if (!here || ::kill(static_cast<pid_t>(holder.process), 0) == 0 || errno == EPERM) {
        return holder;
      }
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return std::nullopt;
}

[[noreturn]] void held(int handle, const std::string& what) {
  const std::optional<Holder> holder = read_holder(handle);
  ::close(handle);
  if (!holder) user_error("{} is being written by another process. Wait for it or stop it.", what);
  const std::string where = holder->machine == host() ? "" : fmt::format(" on {}", holder->machine);
  user_error("{} is being written by process {}{}. Wait for it, or stop it: kill {}", what,
             holder->process, where, holder->process);
}

}  // namespace

FolderLock::FolderLock(fs::path file, const std::string& what) : file_(std::move(file)) {
  while (!open_and_lock(what)) {
  }
  const std::string line = fmt::format("{} {}\n", ::getpid(), host());
  // Without the line, messages say less.
  if (::ftruncate(handle_, 0) != 0 || ::pwrite(handle_, line.data(), line.size(), 0) < 0) return;
}

/// False when the file was removed by its holder meanwhile: the lock would be on nothing.
bool FolderLock::open_and_lock(const std::string& what) {
  std::error_code ignored;
  made_ = !fs::exists(file_, ignored);
  handle_ = ::open(file_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (handle_ < 0) {
    user_error("{}: cannot be made: {}.", file_.string(), std::generic_category().message(errno));
  }
  while (::flock(handle_, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno == EWOULDBLOCK) held(std::exchange(handle_, -1), what);
    locks_ = false;  // ENOLCK, ENOSYS, EOPNOTSUPP, EINVAL, EBADF of remote file systems
    return true;
  }
  struct stat ours = {};
  struct stat there = {};
  if (::fstat(handle_, &ours) == 0 && ::stat(file_.c_str(), &there) == 0 &&
      ours.st_ino == there.st_ino && ours.st_dev == there.st_dev) {
    return true;
  }
  ::close(std::exchange(handle_, -1));
  return false;
}

FolderLock::~FolderLock() {
  if (handle_ >= 0) ::close(handle_);
}

void FolderLock::remove() {
  std::error_code ignored;
  fs::remove(file_, ignored);
  if (handle_ >= 0) ::close(std::exchange(handle_, -1));
}

}  // namespace snug
