#include "io/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "core/error.h"
#include "core/text.h"

namespace snug {
namespace {

namespace fs = std::filesystem;

std::string reason(int error) { return std::generic_category().message(error); }

/// No room: on the disk, in the quota, or under the limit of a file's size.
bool is_full(int error) { return error == ENOSPC || error == EDQUOT || error == EFBIG; }

/// Closes a file descriptor on every way out.
class Handle {
 public:
  explicit Handle(int handle) : handle_(handle) {}
  ~Handle() {
    if (handle_ >= 0) ::close(handle_);
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  int get() const { return handle_; }

 private:
  int handle_;
};

}  // namespace

MappedFile::MappedFile(const fs::path& path) {
  const Handle file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) user_error("{}: cannot be opened: {}.", path.string(), reason(errno));
  struct stat status = {};
  if (::fstat(file.get(), &status) != 0) {
    user_error("{}: cannot be read: {}.", path.string(), reason(errno));
  }
  if (!S_ISREG(status.st_mode)) user_error("{}: not a regular file.", path.string());
  if (status.st_size == 0) return;
  const auto size = static_cast<std::size_t>(status.st_size);
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (data == MAP_FAILED) user_error("{}: cannot be mapped: {}.", path.string(), reason(errno));
  bytes_ = {static_cast<const std::byte*>(data), size};
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

MappedFile::MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

void MappedFile::drop_pages(std::span<const std::byte> part) const {
  if (part.empty()) return;
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const auto offset = static_cast<std::size_t>(part.data() - bytes_.data());
  check(part.data() >= bytes_.data() && offset + part.size() <= bytes_.size(),
        "pages of another file");
  const std::size_t begin = offset / page * page;
  const std::size_t end = std::min(bytes_.size(), offset + part.size());
  // A failure costs memory, not results.
  ::madvise(const_cast<std::byte*>(bytes_.data()) + begin, end - begin, MADV_DONTNEED);
}

OutputFile::OutputFile(fs::path path, std::int64_t expected_bytes)
    : path_(std::move(path)), expected_bytes_(expected_bytes) {
  handle_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (handle_ < 0) fail(errno);
  if (expected_bytes_ == 0) return;
  // Asking first keeps a hopeless reservation from filling the disk for a moment.
  int error = expected_bytes_ > free_disk_bytes(path_) ? ENOSPC : 0;
  if (error == 0 && ::fallocate(handle_, FALLOC_FL_KEEP_SIZE, 0, expected_bytes_) != 0)
    error = errno;
  if (!is_full(error)) return;
  ::close(std::exchange(handle_, -1));
  fail(error);
}

OutputFile::~OutputFile() {
  if (handle_ >= 0) ::close(handle_);
}

void OutputFile::fail(int error) const {
  if (!is_full(error)) user_error("{}: cannot be written: {}.", path_.string(), reason(error));
  if (error == EFBIG) {
    throw DiskFull(fmt::format(
        "{}: cannot be written: too large for the limit of files (ulimit -f).", path_.string()));
  }
  const std::string need =
      expected_bytes_ == 0 ? "" : fmt::format(" needs {},", decimal_bytes(expected_bytes_));
  throw DiskFull(
      fmt::format("{}:{} free on this disk {}. Free some space or choose another output_dir.",
                  path_.string(), need, decimal_bytes(free_disk_bytes(path_))));
}

namespace {

/// Sends what was written on its way to the disk, waits for what was before, and lets go of what
/// arrived: where a group of processes has a memory limit, dirty pages count and cannot be dropped.
/// False on an error, which `errno` names.
bool write_back(int handle) {
  constexpr unsigned kFlags = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE;
  if (::sync_file_range(handle, 0, 0, kFlags) != 0) {
    // Devices and some file systems have no such thing.
    return errno == ESPIPE || errno == EINVAL || errno == ENOSYS;
  }
  ::posix_fadvise(handle, 0, 0, POSIX_FADV_DONTNEED);
  return true;
}

}  // namespace

void OutputFile::write(std::span<const std::byte> bytes) {
  constexpr std::size_t kPiece = 4 << 20;
  while (!bytes.empty()) {
    const ssize_t written = ::write(handle_, bytes.data(), std::min(bytes.size(), kPiece));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail(errno);
    hasher_.add(bytes.first(static_cast<std::size_t>(written)));
    dirty_ += written;
    if (dirty_ >= static_cast<std::int64_t>(kPiece)) {
      if (!write_back(handle_)) fail(errno);
      dirty_ = 0;
    }
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

FileChecksums OutputFile::finish() {
  if (::fsync(handle_) != 0 && errno != EINVAL) fail(errno);  // EINVAL: a device, nothing to sync
  if (::close(std::exchange(handle_, -1)) != 0) fail(errno);
  return hasher_.finish();
}

std::string read_text(const fs::path& path, std::int64_t most_bytes) {
  const MappedFile file(path);
  const auto size = static_cast<std::int64_t>(file.bytes().size());
  if (size > most_bytes) {
    user_error("{}: {} bytes, expected at most {}.", path.string(), group_digits(size),
               group_digits(most_bytes));
  }
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

FileChecksums write_text(const fs::path& path, std::string_view text) {
  OutputFile file(path, static_cast<std::int64_t>(text.size()));
  file.write(std::as_bytes(std::span(text.data(), text.size())));
  return file.finish();
}

void replace_text(const fs::path& path, std::string_view text) {
  const fs::path aside = path.parent_path() / fmt::format(".{}.tmp", path.filename().string());
  std::error_code error;
  try {
    write_text(aside, text);
  } catch (const UserError&) {
    fs::remove(aside, error);
    throw;
  }
  fs::rename(aside, path, error);
  if (error) user_error("{}: cannot be written: {}.", path.string(), error.message());
  sync_folder(path.has_parent_path() ? path.parent_path() : fs::path("."));
}

FileChecksums copy_file_durably(const fs::path& from, const fs::path& to) {
  const MappedFile source(from);
  OutputFile file(to, static_cast<std::int64_t>(source.bytes().size()));
  file.write(source.bytes());
  return file.finish();
}

void sync_folder(const fs::path& folder) {
  const Handle handle(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (handle.get() < 0 || (::fsync(handle.get()) != 0 && errno != EINVAL)) {
    user_error("{}: cannot be made durable: {}.", folder.string(), reason(errno));
  }
}

std::int64_t free_disk_bytes(const fs::path& path) {
  std::error_code ignored;
  fs::path place = fs::absolute(path);
  while (!fs::exists(place, ignored) && place.has_relative_path()) place = place.parent_path();
  struct statvfs status = {};
  if (::statvfs(place.c_str(), &status) != 0) {
    user_error("{}: free space cannot be read: {}.", place.string(), reason(errno));
  }
  return static_cast<std::int64_t>(status.f_bavail) * static_cast<std::int64_t>(status.f_frsize);
}

}  // namespace snug
