#include "io/atomic_file.h"

#include <system_error>
#include <utility>

#include "core/error.h"
#include "io/atomic_folder.h"
#include "io/file.h"

namespace snug {

namespace fs = std::filesystem;

AtomicFile::AtomicFile(const fs::path& target)
    : target_(fs::absolute(target)),
      aside_(target_.parent_path() / fmt::format(".{}.tmp", target_.filename().string())) {
  make_folders(target_.parent_path());
}

AtomicFile::~AtomicFile() {
  std::error_code ignored;
  fs::remove(aside_, ignored);
}

void AtomicFile::commit() {
  std::error_code error;
  fs::rename(aside_, target_, error);
  if (error) user_error("{}: cannot be written: {}.", target_.string(), error.message());
  sync_folder(target_.parent_path());
}

}  // namespace snug
