#include "io/atomic_file.h"

#include <fcntl.h>
#include <stdio.h>  // renameat2

#include <cerrno>
#include <system_error>

#include "core/error.h"
#include "io/file.h"

namespace snug {

namespace fs = std::filesystem;

AtomicFile::AtomicFile(const fs::path& target) : target_(fs::absolute(target)) {
  folder_.emplace(target_);
  aside_ = folder_->path() / target_.filename();
}

void AtomicFile::commit() {
  int failed = 0;
  if (::renameat2(AT_FDCWD, aside_.c_str(), AT_FDCWD, target_.c_str(), RENAME_NOREPLACE) != 0) {
    failed = errno;
    // File systems that cannot tell rename without asking.
    if (failed == EINVAL && !fs::exists(target_)) {
      failed = ::rename(aside_.c_str(), target_.c_str()) == 0 ? 0 : errno;
    }
  }
  if (failed != 0) {
    user_error("{}: cannot be written: {}.", target_.string(),
               std::generic_category().message(failed));
  }
  folder_.reset();
  sync_folder(target_.parent_path());
}

}  // namespace snug
