#include "io/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <random>

#include "io/temporary_folder.h"

namespace snug {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

std::span<const std::byte> as_bytes(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

/// A file with this header and this many bytes of data.
std::string container(const std::string& header, std::size_t data_bytes) {
  std::string file;
  for (std::size_t i = 0; i < 8; ++i) {
    file.push_back(static_cast<char>((header.size() >> (8 * i)) & 0xffU));
  }
  return file + header + std::string(data_bytes, 'x');
}

class Safetensors : public testing::Test {
 protected:
  std::filesystem::path write(const std::string& content) const {
    std::filesystem::remove(folder_ / "a.safetensors");
    std::ofstream(folder_ / "a.safetensors") << content;
    return folder_ / "a.safetensors";
  }
  /// The error on opening a file with this content.
  std::string error_of(const std::string& content) const {
    return user_error_of([&] { SafetensorsFile file(write(content)); });
  }
  TemporaryFolder folder_;
};

TEST_F(Safetensors, ReadsWhatTheWriterWroteInTheFormatsOrder) {
  const std::vector<TensorSpec> tensors = {
      {"b.bf16", DType::bf16, {2, 3}}, {"z.f32", DType::f32, {2}},    {"a.bf16", DType::bf16, {1}},
      {"u8", DType::u8, {3}},          {"empty", DType::f32, {0, 4}}, {"scalar", DType::i64, {}}};
  SafetensorsWriter writer(folder_ / "a.safetensors", tensors);
  std::vector<std::string> order;
  for (const TensorSpec& tensor : writer.order()) {
    order.push_back(tensor.name);
    const std::string data(static_cast<std::size_t>(byte_count(tensor)), tensor.name[0]);
    writer.append(as_bytes(data.substr(0, 1)));  // in parts
    if (!data.empty()) writer.append(as_bytes(data.substr(1)));
  }
  writer.finish();
  EXPECT_THAT(order, ElementsAre("scalar", "empty", "z.f32", "a.bf16", "b.bf16", "u8"));

  const SafetensorsFile file(folder_ / "a.safetensors");
  EXPECT_EQ(std::filesystem::file_size(file.path()), SafetensorsWriter::file_bytes(tensors));
  EXPECT_EQ(file.tensors().size(), tensors.size());
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.find("nothing"), nullptr);
  for (const TensorSpec& tensor : tensors) {
    const TensorView* view = file.find(tensor.name);
    ASSERT_NE(view, nullptr) << tensor.name;
    EXPECT_EQ(view->dtype, tensor.dtype);
    EXPECT_EQ(view->shape, tensor.shape);
    ASSERT_EQ(view->bytes.size(), byte_count(tensor));
    for (const std::byte b : view->bytes) EXPECT_EQ(static_cast<char>(b), tensor.name[0]);
  }
}

TEST_F(Safetensors, TheHeaderIsPaddedToEightBytes) {
  for (const std::string name : {"a", "ab", "abc", "abcdefgh"}) {
    const std::int64_t bytes = SafetensorsWriter::file_bytes({{name, DType::u8, {}}});
    EXPECT_EQ((bytes - 1) % 8, 0) << name;
  }
}

TEST_F(Safetensors, TypesThatSnugCannotComputeWithAreStillListed) {
  const SafetensorsFile file(
      write(container(R"({"m":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]},)"
                      R"("q":{"dtype":"F4","shape":[2,2],"data_offsets":[2,4]}})",
                      4)));
  EXPECT_EQ(file.find("m")->dtype, std::nullopt);
  EXPECT_EQ(file.find("q")->type_name, "F4");
}

TEST_F(Safetensors, TruncatedFilesNameTheTensorAndBothEnds) {
  const std::string header = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                             R"("b":{"dtype":"F32","shape":[1000],"data_offsets":[8,4008]}})";
  EXPECT_THAT(error_of(container(header, 2000)),
              HasSubstr("a.safetensors: 'b' ends at byte 4,129, the file at 2,121 (interrupted "
                        "download?)."));
  EXPECT_THAT(error_of(container(header, 4008).substr(0, 50)),
              HasSubstr("the header ends at byte 121, the file at 50 (interrupted download?)."));
  EXPECT_THAT(error_of("short"), HasSubstr("5 bytes is no safetensors file"));
  EXPECT_THAT(error_of(""), HasSubstr("0 bytes is no safetensors file"));
  EXPECT_THAT(error_of(container(header, 5000)),
              HasSubstr("the last tensor ends at byte 4,129, the file at 5,121"));
}

TEST_F(Safetensors, LyingHeadersAreRefused) {
  const auto one = [](const std::string& entry) { return container(R"({"a":)" + entry + "}", 8); };
  EXPECT_THAT(error_of(one(R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})")),
              HasSubstr("'a' is F32 [3], but its data_offsets are [0, 8]"));
  EXPECT_THAT(error_of(one(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})")),
              HasSubstr("data_offsets are [8, 0]"));
  EXPECT_THAT(
      error_of(one(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]})")),
      HasSubstr("data_offsets are [0, 8]"));
  EXPECT_THAT(error_of(one(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})")),
              HasSubstr("'a' has -2 where a size of its shape belongs"));
  EXPECT_THAT(error_of(one(R"({"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})")),
              HasSubstr("'a' has 2.0"));
  EXPECT_THAT(
      error_of(one(R"({"dtype":"F32","shape":[2],"data_offsets":[18446744073709551608,0]})")),
      HasSubstr("where its first byte belongs"));
  EXPECT_THAT(error_of(one(R"({"dtype":"F31","shape":[2],"data_offsets":[0,8]})")),
              HasSubstr("'a' has dtype \"F31\""));
  EXPECT_THAT(error_of(one(R"({"dtype":7,"shape":[2],"data_offsets":[0,8]})")),
              HasSubstr("has dtype 7"));
  EXPECT_THAT(error_of(one(R"({"dtype":"F32","shape":8,"data_offsets":[0,8]})")),
              HasSubstr("no list"));
  EXPECT_THAT(error_of(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0]})")),
              HasSubstr("no pair"));
  EXPECT_THAT(error_of(one(R"({"dtype":"F32","shape":[2]})")), HasSubstr("has no 'data_offsets'"));
  EXPECT_THAT(error_of(one("[]")), HasSubstr("has no 'dtype'"));
  EXPECT_THAT(error_of(one(R"({"dtype":"F4","shape":[3],"data_offsets":[0,1]})")),
              HasSubstr("'a' is F4 [3]"));
}

TEST_F(Safetensors, OverlapsAndGapsAreRefused) {
  EXPECT_THAT(error_of(container(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                                 R"("b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
                                 6)),
              AllOf(HasSubstr("'b' begins at byte 115"), HasSubstr("ends at 117")));
  EXPECT_THAT(error_of(container(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                                 R"("b":{"dtype":"U8","shape":[4],"data_offsets":[5,9]}})",
                                 9)),
              HasSubstr("'b' begins at byte 118, after a gap from 117 on"));
}

TEST_F(Safetensors, DamagedHeadersAreRefused) {
  std::string huge(8, '\0');
  huge[7] = 0x10;  // 2^60
  EXPECT_THAT(error_of(huge + "{}"), HasSubstr("a header of 1152921504606846976 bytes"));
  EXPECT_THAT(error_of(container("not json", 0)), HasSubstr("a.safetensors: not valid JSON"));
  EXPECT_THAT(error_of(container("[]", 0)), HasSubstr("no JSON object"));
  EXPECT_THAT(error_of(container(R"({"__metadata__":{"a":1}})", 0)), HasSubstr("__metadata__.a"));
  const std::string twice = R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  EXPECT_THAT(error_of(container("{" + twice + "," + twice + "}", 1)),
              HasSubstr("'a' occurs twice"));
  EXPECT_THAT(error_of(container(std::string(100000, '['), 0)), HasSubstr("nested deeper"));
  EXPECT_THAT(user_error_of([&] { SafetensorsFile file(folder_ / "none.safetensors"); }),
              AllOf(HasSubstr("none.safetensors: cannot be opened"), HasSubstr("No such file")));
  EXPECT_THAT(user_error_of([&] { SafetensorsFile file(folder_.path()); }),
              HasSubstr("not a regular file"));
}

TEST_F(Safetensors, NoByteFlipCrashesOrReadsOutside) {
  const std::string good = container(
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
      R"("b":{"dtype":"BF16","shape":[4],"data_offsets":[8,16]}})",
      16);
  std::mt19937_64 random(7);
  std::int64_t sum = 0;
  for (int i = 0; i < 2000; ++i) {
    std::string damaged = good;
    if (i % 4 == 0) damaged.resize(random() % damaged.size());
    for (int flips = 0; flips < 2 && !damaged.empty(); ++flips) {
      damaged[random() % damaged.size()] = static_cast<char>(random());
    }
    try {
      const SafetensorsFile file(write(damaged));
      for (const TensorView& view : file.tensors()) {
        for (const std::byte b : view.bytes) sum += static_cast<int>(b);
      }
    } catch (const UserError&) {
      continue;
    }
  }
  EXPECT_GT(sum, 0);  // some flips change nothing that matters
}

/// Bytes of files that this process has mapped and in memory.
std::int64_t resident_file_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("RssFile:")) return 1024 * std::stoll(line.substr(8));
  }
  return 0;
}

TEST_F(Safetensors, DroppedPagesLeaveMemoryAndReadBackTheSame) {
  constexpr std::int64_t kBytes = 1 << 24;
  SafetensorsWriter writer(folder_ / "a.safetensors",
                           {{"a", DType::u8, {kBytes}}, {"b", DType::u8, {kBytes}}});
  writer.append(as_bytes(std::string(kBytes, 'a')));
  writer.append(as_bytes(std::string(kBytes, 'b')));
  writer.finish();
  const SafetensorsFile file(folder_ / "a.safetensors");
  const std::int64_t before = resident_file_bytes();
  for (int round = 0; round < 2; ++round) {
    for (const TensorView& view : file.tensors()) {
      EXPECT_TRUE(std::all_of(view.bytes.begin(), view.bytes.end(),
                              [&](std::byte b) { return static_cast<char>(b) == view.name[0]; }));
      EXPECT_GT(resident_file_bytes(), before + kBytes / 2);
      file.drop_pages(view);
      EXPECT_LT(resident_file_bytes(), before + kBytes / 2);
    }
  }
}

TEST_F(Safetensors, AFullDiskIsAUserErrorWithTheBytesNeeded) {
  std::filesystem::create_symlink("/dev/full", folder_ / "full.safetensors");
  const auto fill = [&] {
    SafetensorsWriter writer(folder_ / "full.safetensors", {{"a", DType::u8, {4'000'000}}});
    writer.append(as_bytes(std::string(4'000'000, 'a')));
    writer.finish();
  };
  EXPECT_THAT(user_error_of(fill),
              AllOf(HasSubstr("full.safetensors: needs 4 MB,"), HasSubstr("free on this disk")));
}

TEST_F(Safetensors, AFileBeyondTheDiskIsRefusedBeforeItIsWritten) {
  const std::int64_t too_much = free_disk_bytes(folder_.path()) + (std::int64_t{1} << 33);
  EXPECT_THAT(user_error_of([&] { OutputFile file(folder_ / "large", too_much); }),
              HasSubstr("free on this disk"));
}

TEST_F(Safetensors, ShortWritesAreUserErrors) {
  // The process may write only 1 MiB into a file; the kernel then writes short.
  rlimit before = {};
  getrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 1 << 20;
  setrlimit(RLIMIT_FSIZE, &small);
  const std::string message = user_error_of([&] {
    OutputFile file(folder_ / "short", 0);
    file.write(as_bytes(std::string(3 << 20, 'a')));
  });
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_THAT(message, AllOf(HasSubstr("short: cannot be written"), HasSubstr("too large")));
}

TEST_F(Safetensors, MisusingTheWriterIsAnInternalError) {
  SafetensorsWriter writer(folder_ / "a.safetensors", {{"a", DType::u8, {4}}});
  EXPECT_THROW(writer.finish(), InternalError);
  EXPECT_THROW(writer.append(as_bytes("12345")), InternalError);
  EXPECT_THROW(
      SafetensorsWriter(folder_ / "b.safetensors", {{"a", DType::u8, {4}}, {"a", DType::f32, {4}}}),
      InternalError);
}

}  // namespace
}  // namespace snug
