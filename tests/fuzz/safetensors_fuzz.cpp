// A safetensors file is refused, or every byte of its tensors can be read.

#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "fuzz.h"
#include "io/safetensors.h"

namespace {

// A file in memory that has a path.
class MemoryFile {
 public:
  MemoryFile(const std::uint8_t* data, std::size_t size) : descriptor_(memfd_create("fuzz", 0)) {
    snug::require(descriptor_ >= 0);
    snug::require(write(descriptor_, data, size) == static_cast<ssize_t>(size));
  }
  ~MemoryFile() { close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const MemoryFile memory(data, size);
  snug::accepted([&] {
    const snug::SafetensorsFile file(memory.path());
    unsigned sum = 0;
    for (const snug::TensorView& tensor : file.tensors()) {
      for (const std::byte byte : tensor.bytes) sum += std::to_integer<unsigned>(byte);
      snug::require(file.find(tensor.name) == &tensor);
    }
    snug::require(sum <= 255 * size);
  });
  return 0;
}
