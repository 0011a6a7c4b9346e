#include "io/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <numeric>

#include "core/dtype.h"
#include "io/atomic_file.h"
#include "io/temporary_folder.h"

namespace snug {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;

std::string little(std::uint64_t value, std::size_t width) {
  std::string bytes;
  for (std::size_t i = 0; i < width; ++i) bytes.push_back(static_cast<char>(value >> (8 * i)));
  return bytes;
}
std::string u32(std::uint32_t value) { return little(value, 4); }
std::string u64(std::uint64_t value) { return little(value, 8); }
std::string text(const std::string& value) { return u64(value.size()) + value; }

std::vector<std::byte> encoded(const std::vector<float>& values, GgmlType type) {
  const auto blocks = static_cast<std::int64_t>(values.size()) / block_elements(type);
  std::vector<std::byte> bytes(static_cast<std::size_t>(blocks * block_bytes(type)));
  encode_elements(values, type, bytes);
  return bytes;
}

TEST(Gguf, AFileIsWhatTheSpecificationSays) {
  const TemporaryFolder folder;
  GgufMetadata metadata;
  metadata.add("general.architecture", "llama");
  metadata.add("a.count", std::uint32_t{7});
  metadata.add("a.eps", 1.5F);
  metadata.add("a.flag", true);
  metadata.add("a.tokens", std::vector<std::string>{"x", ""});
  metadata.add("a.types", std::vector<std::int32_t>{-1});
  metadata.add("a.scores", std::vector<float>{});
  const std::vector<GgufTensor> tensors = {{"m", GgmlType::f32, {3, 2}},
                                           {"v", GgmlType::bf16, {1}}};
  GgufWriter writer(folder / "f.gguf", metadata, tensors);
  const std::vector<float> matrix = {1, 2, 3, 4, 5, 6};
  const auto bytes = std::as_bytes(std::span(matrix));
  writer.append(bytes.first(5));
  writer.append(bytes.subspan(5));
  writer.append(encoded({1}, GgmlType::bf16));
  writer.finish();

  std::string expected = "GGUF" + u32(3) + u64(2) + u64(7);
  expected += text("general.architecture") + u32(8) + text("llama");
  expected += text("a.count") + u32(4) + u32(7);
  expected += text("a.eps") + u32(6) + u32(0x3fc00000);
  expected += text("a.flag") + u32(7) + '\1';
  expected += text("a.tokens") + u32(9) + u32(8) + u64(2) + text("x") + text("");
  expected += text("a.types") + u32(9) + u32(5) + u64(1) + u32(0xffffffff);
  expected += text("a.scores") + u32(9) + u32(6) + u64(0);
  expected += text("m") + u32(2) + u64(2) + u64(3) + u32(0) + u64(0);
  expected += text("v") + u32(1) + u64(1) + u32(30) + u64(32);
  expected.resize((expected.size() + 31) / 32 * 32);
  expected += std::string(reinterpret_cast<const char*>(matrix.data()), 24) + std::string(8, '\0');
  expected += little(0x3f80, 2) + std::string(30, '\0');
  EXPECT_EQ(read_text(folder / "f.gguf"), expected);
  EXPECT_EQ(GgufWriter::file_bytes(metadata, tensors), static_cast<std::int64_t>(expected.size()));
}

TEST(Gguf, ChecksWhatIsAppended) {
  const TemporaryFolder folder;
  GgufWriter writer(folder / "f.gguf", {}, {{"v", GgmlType::f16, {2}}});
  const std::array<std::byte, 5> bytes{};
  EXPECT_THROW(writer.finish(), InternalError);
  EXPECT_THROW(writer.append(bytes), InternalError);
}

TEST(Gguf, NamesAndKeysOccurOnce) {
  const TemporaryFolder folder;
  GgufMetadata metadata;
  metadata.add("k", true);
  EXPECT_THROW(metadata.add("k", true), InternalError);
  EXPECT_THROW(GgufWriter(folder / "f", {}, {{"v", GgmlType::f16, {2}}, {"v", GgmlType::f16, {2}}}),
               InternalError);
}

TEST(Gguf, QuantisedRowsAreWholeBlocks) {
  EXPECT_EQ(byte_count({"m", GgmlType::q8_0, {3, 64}}), 3 * 2 * 34);
  EXPECT_THROW(byte_count({"m", GgmlType::q8_0, {3, 48}}), InternalError);
}

TEST(GgmlTypes, Q8RoundsHalvesAwayFromZero) {
  // The largest is 127, so that the scale is 1 and codes are the rounded values.
  std::vector<float> values(32, 0);
  const std::vector<float> first = {127, 0.5F, -0.5F, 1.5F, -2.5F, 0.49999997F, -126.5F, 2.4F};
  std::copy(first.begin(), first.end(), values.begin());
  const auto bytes = encoded(values, GgmlType::q8_0);
  std::vector<int> codes;
  for (std::size_t i = 0; i < first.size(); ++i) {
    codes.push_back(static_cast<std::int8_t>(bytes[2 + i]));
  }
  EXPECT_THAT(codes, ElementsAre(127, 1, -1, 2, -3, 0, -127, 2));
  EXPECT_EQ(bytes[0], std::byte{0x00});  // 1 in fp16
  EXPECT_EQ(bytes[1], std::byte{0x3c});
}

TEST(GgmlTypes, Q8BlocksHaveTheirOwnScales) {
  std::vector<float> values(96, 0);
  std::iota(values.begin() + 32, values.begin() + 64, -16.0F);
  std::fill(values.begin() + 64, values.end(), 1e-3F);
  const auto bytes = encoded(values, GgmlType::q8_0);
  EXPECT_TRUE(
      std::all_of(bytes.begin(), bytes.begin() + 34, [](auto b) { return b == std::byte{}; }));
  for (std::size_t i = 32; i < values.size(); ++i) {
    const std::size_t block = i / 32 * 34;
    const auto low = static_cast<unsigned>(bytes[block]);
    const auto high = static_cast<unsigned>(bytes[block + 1]);
    const float scale = Float16::widen(static_cast<std::uint16_t>(low | high << 8));
    const auto code = static_cast<std::int8_t>(bytes[block + 2 + i % 32]);
    // Half a code, and the scale's rounding to 11 bits over at most 127 codes.
    EXPECT_NEAR(scale * static_cast<float>(code), values[i], scale * (0.5F + 127.0F / 2048.0F));
  }
}

TEST(GgmlTypes, OverflowIsWhereRoundingGivesInfinity) {
  const float limit = overflow_of(GgmlType::f16);
  EXPECT_TRUE(std::isinf(static_cast<float>(Float16(limit))));
  EXPECT_FALSE(std::isinf(static_cast<float>(Float16(std::nextafterf(limit, 0)))));
}

TEST(AtomicFile, AppearsOnCommitOnly) {
  const TemporaryFolder folder;
  const fs::path target = folder.path() / "sub" / "a.gguf";
  {
    const AtomicFile file(target);
    write_text(file.path(), "half");
  }
  EXPECT_TRUE(fs::is_empty(folder / "sub"));
  AtomicFile file(target);
  write_text(file.path(), "whole");
  file.commit();
  EXPECT_EQ(read_text(target), "whole");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder / "sub"), {}), 1);
}

}  // namespace
}  // namespace snug
