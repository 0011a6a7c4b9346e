// Packed weights from folders: quantised on the way, as bitsandbytes stored them, and broken.

#include "train/packed_weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <random>

#include "backend/cpu/quantize.h"
#include "core/dynamic_map.h"
#include "core/packed_format.h"
#include "io/model_writer.h"
#include "io/temporary_folder.h"
#include "train/weights.h"

namespace snug {
namespace {

using testing::HasSubstr;

constexpr std::int64_t kRows = 24;
constexpr std::int64_t kColumns = 200;  // 75 blocks that cross rows
constexpr std::int64_t kBlocks = 75;

std::vector<std::byte> bytes_of(const void* data, std::size_t count) {
  const auto* from = static_cast<const std::byte*>(data);
  return {from, from + count};
}

template <class T>
std::vector<std::byte> bytes_of(const std::vector<T>& values) {
  return bytes_of(values.data(), values.size() * sizeof(T));
}

/// Tensors of a folder, by name.
struct Stored {
  TensorSpec spec;
  std::vector<std::byte> bytes;
};
using Folder = std::map<std::string, Stored>;

void add(Folder& folder, const std::string& name, DType type, std::vector<std::int64_t> shape,
         std::vector<std::byte> bytes) {
  folder[name] = {{name, type, std::move(shape)}, std::move(bytes)};
}

void write(const Folder& folder, const std::filesystem::path& to) {
  std::vector<TensorSpec> specs;
  for (const auto& [name, stored] : folder) specs.push_back(stored.spec);
  write_safetensors(to / "model.safetensors", specs,
                    [&](const TensorSpec& spec, ModelFolderWriter::Sink sink) {
                      sink(folder.at(spec.name).bytes);
                    });
}

std::vector<float> weights() {
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0.0F, 0.02F);
  std::vector<float> values(kRows * kColumns);
  for (float& value : values) value = normal(random);
  return values;
}

Parameter packed_parameter(PackedFormat format, bool nested) {
  Parameter parameter{.name = "a.weight", .type = {DType::f32, {kRows, kColumns}}};
  const auto part = [&](const char* component, const char* value, DType type, Shape shape) {
    parameter.storage.push_back({component, std::string(name_of(format)), value, {type, shape}});
  };
  const std::int64_t scales = packed_scales(format, kRows, kColumns);
  part("weight", "a.weight", is_four_bit(format) ? DType::u8 : DType::i8,
       {packed_code_bytes(format, kRows * kColumns)});
  part("scales", "a.weight.scales", nested ? DType::u8 : DType::f32, {scales});
  if (nested) {
    part("nested_scales", "a.weight.nested_scales", DType::f32, {nested_scales(scales)});
    part("nested_offset", "a.weight.nested_offset", DType::f32, {});
  }
  return parameter;
}

/// What loading fills.
class Memory {
 public:
  explicit Memory(const Parameter& parameter) {
    for (const StorageComponent& part : parameter.storage) {
      bytes[part.value].assign(static_cast<std::size_t>(part.type.bytes()), std::byte{0xEE});
    }
  }
  auto source() {
    return [this](std::string_view name) { return std::span(bytes.at(std::string(name))); };
  }
  std::map<std::string, std::vector<std::byte>> bytes;
};

/// A weight as bitsandbytes stores it in NF4.
Folder stored_nf4(bool nested) {
  std::vector<std::uint8_t> codes(kRows * kColumns / 2);
  std::vector<float> scales(kBlocks);
  quantize_nf4(weights(), codes.data(), scales.data());
  Folder folder;
  const auto levels = levels_of(PackedFormat::nf4);
  add(folder, "a.weight", DType::u8, {kRows * kColumns / 2, 1}, bytes_of(codes));
  add(folder, "a.weight.quant_map", DType::f32, {16}, bytes_of(levels.data(), levels.size_bytes()));
  std::string state =
      R"({"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [24, 200]})";
  if (nested) {
    std::vector<std::uint8_t> scale_codes(kBlocks);
    std::vector<float> nested_absmax(1);
    float offset = 0;
    quantize_scales(scales, scale_codes.data(), nested_absmax.data(), &offset);
    add(folder, "a.weight.absmax", DType::u8, {kBlocks}, bytes_of(scale_codes));
    add(folder, "a.weight.nested_absmax", DType::f32, {1}, bytes_of(nested_absmax));
    const DynamicMap& map = signed_dynamic_map();
    add(folder, "a.weight.nested_quant_map", DType::f32, {256}, bytes_of(map.data(), sizeof map));
    state.pop_back();
    state += fmt::format(
        R"(, "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": {}}})", offset);
  } else {
    add(folder, "a.weight.absmax", DType::f32, {kBlocks}, bytes_of(scales));
  }
  add(folder, "a.weight.quant_state.bitsandbytes__nf4", DType::u8,
      {static_cast<std::int64_t>(state.size())}, bytes_of(state.data(), state.size()));
  return folder;
}

Folder stored_plain() {
  Folder folder;
  add(folder, "a.weight", DType::f32, {kRows, kColumns}, bytes_of(weights()));
  return folder;
}

Memory load(const Folder& folder, const Parameter& parameter) {
  const TemporaryFolder place;
  write(folder, place.path());
  Memory memory(parameter);
  ThreadPool pool(2);
  load_packed(parameter, ModelWeights(place.path()), memory.source(), pool);
  return memory;
}

std::string error_of(const Folder& folder, const Parameter& parameter) {
  const TemporaryFolder place;
  write(folder, place.path());
  return user_error_of([&] { check_packed(parameter, ModelWeights(place.path())); });
}

TEST(PackedWeights, QuantisingAndReadingGiveTheSameBytes) {
  for (const bool nested : {false, true}) {
    const Parameter parameter = packed_parameter(PackedFormat::nf4, nested);
    EXPECT_EQ(load(stored_plain(), parameter).bytes, load(stored_nf4(nested), parameter).bytes);
  }
}

TEST(PackedWeights, CodesMayLieInAnyType) {
  Folder folder = stored_nf4(true);
  folder["a.weight"].spec = {"a.weight", DType::bf16, {kRows * kColumns / 4, 1}};
  const Parameter parameter = packed_parameter(PackedFormat::nf4, true);
  EXPECT_EQ(load(folder, parameter).bytes, load(stored_nf4(true), parameter).bytes);
}

TEST(PackedWeights, EightBitsAreReadAndMade) {
  const Parameter parameter = packed_parameter(PackedFormat::int8, false);
  Memory made = load(stored_plain(), parameter);
  Folder folder;
  add(folder, "a.weight", DType::i8, {kRows, kColumns}, made.bytes["a.weight"]);
  add(folder, "a.SCB", DType::f32, {kRows}, made.bytes["a.weight.scales"]);
  add(folder, "a.weight_format", DType::u8, {}, {std::byte{0}});
  EXPECT_EQ(load(folder, parameter).bytes, made.bytes);
  folder["a.weight_format"].bytes[0] = std::byte{2};
  EXPECT_THAT(error_of(folder, parameter), HasSubstr("'a.weight_format' is another layout"));
  folder.erase("a.SCB");
  EXPECT_THAT(error_of(folder, parameter), HasSubstr("'a.SCB' is missing"));
}

TEST(PackedWeights, InitialWeightsAreQuantised) {
  constexpr std::array kModel{Owner::model};
  const Parameter parameter = packed_parameter(PackedFormat::nf4, false);
  Memory memory(parameter);
  ThreadPool pool(2);
  initialise_weights({parameter}, kModel, 0.02, 5, memory.source(), pool);
  Parameter plain = parameter;
  plain.storage = {{"weight", "plain", "a.weight", plain.type}};
  Memory before(plain);
  initialise_weights({plain}, kModel, 0.02, 5, before.source(), pool);
  Memory packed(parameter);
  pack_weight(parameter, before.bytes["a.weight"], DType::f32, packed.source(), pool);
  EXPECT_EQ(memory.bytes, packed.bytes);
}

TEST(PackedWeights, BrokenFoldersAreNamed) {
  const Parameter parameter = packed_parameter(PackedFormat::nf4, true);
  const auto broken = [&](auto&& damage) {
    Folder folder = stored_nf4(true);
    damage(folder);
    return error_of(folder, parameter);
  };
  const std::string state = "a.weight.quant_state.bitsandbytes__nf4";
  const auto edit_state = [&](const std::string& from, const std::string& to) {
    return broken([&](Folder& folder) {
      Stored& stored = folder[state];
      std::string text(reinterpret_cast<const char*>(stored.bytes.data()), stored.bytes.size());
      text.replace(text.find(from), from.size(), to);
      stored.bytes = bytes_of(text.data(), text.size());
      stored.spec.shape = {static_cast<std::int64_t>(text.size())};
    });
  };
  EXPECT_EQ(broken([](Folder&) {}), "no error");
  EXPECT_THAT(edit_state("64", "128"), HasSubstr("has blocksize 128; snug reads 64."));
  EXPECT_THAT(edit_state("[24, 200]", "[200, 24]"), HasSubstr("has shape [200,24]"));
  EXPECT_THAT(edit_state("256", "128"), HasSubstr("has nested_blocksize 128"));
  EXPECT_THAT(edit_state("\"nested_offset\"", "\"other\""), HasSubstr("are not quantised"));
  EXPECT_THAT(edit_state("{\"quant", "\"quant"), HasSubstr(state));
  EXPECT_THAT(broken([&](Folder& folder) { folder.erase(state); }),
              HasSubstr("'" + state + "' is missing"));
  EXPECT_THAT(broken([](Folder& folder) { folder.erase("a.weight.nested_absmax"); }),
              HasSubstr("'a.weight.nested_absmax' is missing"));
  EXPECT_THAT(broken([](Folder& folder) {
                Stored& scales = folder["a.weight.absmax"];
                scales.spec.shape = {kBlocks - 1};
                scales.bytes.pop_back();
              }),
              HasSubstr("'a.weight.absmax' is U8 of 74 bytes"));
  EXPECT_THAT(broken([](Folder& folder) {
                Stored& codes = folder["a.weight"];
                codes.spec.shape = {kRows * kColumns / 2 - 2, 1};
                codes.bytes.resize(codes.bytes.size() - 2);
              }),
              HasSubstr("'a.weight' has 2398 bytes; a weight of [24, 200] in 4 bits has 2400."));
  EXPECT_THAT(broken([](Folder& folder) { folder["a.weight.quant_map"].bytes[1] = std::byte{9}; }),
              HasSubstr("'a.weight.quant_map' is not the map of nf4"));
}

}  // namespace
}  // namespace snug
