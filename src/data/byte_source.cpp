#include "data/byte_source.h"

#include <zlib.h>
#include <zstd.h>

#include <fstream>
#include <vector>

#include "core/error.h"

namespace snug {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kPackedBytes = 1 << 16;
constexpr int kWindowLog =
    27;  // the largest window of a .zst frame: 128 MiB, as zstd's own default

class PlainSource : public ByteSource {
 public:
  explicit PlainSource(const fs::path& file) : name_(file.string()), in_(file, std::ios::binary) {
    if (!in_ || fs::is_directory(file)) user_error("{}: cannot be opened for reading.", name_);
  }
  std::size_t read(std::span<char> buffer) override {
    in_.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    if (in_.bad()) user_error("{}: reading failed.", name_);
    return static_cast<std::size_t>(in_.gcount());
  }
  const std::string& name() const { return name_; }

 private:
  std::string name_;
  std::ifstream in_;
};

class GzipSource : public ByteSource {
 public:
  explicit GzipSource(const fs::path& file) : packed_(file), input_(kPackedBytes) {
    constexpr int kGzipOnly = 16 + MAX_WBITS;
    check(inflateInit2(&stream_, kGzipOnly) == Z_OK, "inflateInit2 failed");
  }
  ~GzipSource() override { inflateEnd(&stream_); }
  GzipSource(const GzipSource&) = delete;
  GzipSource& operator=(const GzipSource&) = delete;

  std::size_t read(std::span<char> buffer) override {
    stream_.next_out = reinterpret_cast<Bytef*>(buffer.data());
    stream_.avail_out = static_cast<uInt>(buffer.size());
    while (stream_.avail_out == buffer.size()) {
      if (stream_.avail_in == 0) refill();
      if (stream_.avail_in == 0 && !inside_) return 0;
      const int status = inflate(&stream_, Z_NO_FLUSH);
      inside_ = status != Z_STREAM_END;
      if (status == Z_STREAM_END) {
        inflateReset(&stream_);
      } else if (status == Z_BUF_ERROR) {
        user_error("{}: the gzip file ends too early.", packed_.name());
      } else if (status != Z_OK) {
        user_error("{}: not a whole gzip file: {}.", packed_.name(),
                   stream_.msg != nullptr ? stream_.msg : "damaged");
      }
    }
    return buffer.size() - stream_.avail_out;
  }

 private:
  void refill() {
    stream_.avail_in = static_cast<uInt>(packed_.read(input_));
    stream_.next_in = reinterpret_cast<Bytef*>(input_.data());
  }

  PlainSource packed_;
  std::vector<char> input_;
  z_stream stream_{};
  bool inside_ = true;  // of a member; an empty file is not whole
};

class ZstdSource : public ByteSource {
 public:
  explicit ZstdSource(const fs::path& file)
      : packed_(file), buffer_(kPackedBytes), stream_(ZSTD_createDCtx(), ZSTD_freeDCtx) {
    ZSTD_DCtx_setParameter(stream_.get(), ZSTD_d_windowLogMax, kWindowLog);
  }

  std::size_t read(std::span<char> buffer) override {
    ZSTD_outBuffer out{buffer.data(), buffer.size(), 0};
    while (out.pos == 0) {
      if (in_.pos == in_.size) in_ = {buffer_.data(), packed_.read(buffer_), 0};
      const bool ended = in_.size == 0;
      if (ended && !inside_) return 0;
      const std::size_t left = ZSTD_decompressStream(stream_.get(), &out, &in_);
      if (ZSTD_isError(left) != 0) {
        user_error("{}: not a whole zstd file: {}.", packed_.name(), ZSTD_getErrorName(left));
      }
      inside_ = left != 0;
      if (ended && inside_ && out.pos == 0) {
        user_error("{}: the zstd file ends too early.", packed_.name());
      }
    }
    return out.pos;
  }

 private:
  PlainSource packed_;
  std::vector<char> buffer_;
  std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> stream_;
  ZSTD_inBuffer in_{nullptr, 0, 0};
  bool inside_ = true;  // of a frame
};

}  // namespace

std::unique_ptr<ByteSource> open_bytes(const fs::path& file) {
  if (file.extension() == ".gz") return std::make_unique<GzipSource>(file);
  if (file.extension() == ".zst") return std::make_unique<ZstdSource>(file);
  return std::make_unique<PlainSource>(file);
}

}  // namespace snug
