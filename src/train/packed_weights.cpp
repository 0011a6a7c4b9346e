#include "train/packed_weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "backend/cpu/quantize.h"
#include "core/dynamic_map.h"
#include "core/error.h"
#include "core/json.h"
#include "core/packed_format.h"
#include "train/weights.h"

namespace snug {
namespace {

using Json = nlohmann::json;

constexpr std::int64_t kTaskElements = 1 << 14;  // quantised at a time; whole blocks

const StorageComponent* component_of(const Parameter& parameter, std::string_view name) {
  const auto found = std::find_if(parameter.storage.begin(), parameter.storage.end(),
                                  [&](const auto& part) { return part.component == name; });
  return found == parameter.storage.end() ? nullptr : &*found;
}

PackedFormat format_of(const Parameter& parameter) {
  return packed_format_from_name(parameter.storage.front().format).value();
}

bool is_stored_plain(const TensorView& view, const Parameter& parameter) {
  const auto dims = parameter.type.shape.dims();
  return view.dtype && is_float(*view.dtype) &&
         std::equal(dims.begin(), dims.end(), view.shape.begin(), view.shape.end());
}

}  // namespace

PackedMatrix packed_matrix(const Parameter& parameter, ValueBytes bytes) {
  const auto part = [&](const char* name) -> const std::byte* {
    const StorageComponent* component = component_of(parameter, name);
    return component == nullptr ? nullptr : bytes(component->value).data();
  };
  const auto* offset = reinterpret_cast<const float*>(part("nested_offset"));
  return {.format = format_of(parameter),
          .rows = parameter.type.shape[0],
          .columns = parameter.type.shape[1],
          .codes = reinterpret_cast<const std::uint8_t*>(part("weight")),
          .scales = part("scales"),
          .nested = reinterpret_cast<const float*>(part("nested_scales")),
          .offset = offset == nullptr ? 0.0F : *offset};
}

namespace {

/// The tensors of one weight in a bitsandbytes folder, checked.
class StoredPacked {
 public:
  StoredPacked(const Parameter& parameter, const ModelWeights& source)
      : parameter_(parameter), source_(source), format_(format_of(parameter)) {
    codes = &require(parameter.name);
    if (is_four_bit(format_)) {
      read_four_bit();
    } else {
      read_int8();
    }
  }

  const TensorView* codes = nullptr;
  const TensorView* scales = nullptr;
  const TensorView* nested_scales = nullptr;  // nullptr: not double quantised
  float nested_offset = 0;

 private:
  std::int64_t rows() const { return parameter_.type.shape[0]; }
  std::int64_t columns() const { return parameter_.type.shape[1]; }

  template <class... Args>
  [[noreturn]] void fail(const TensorView& view, fmt::format_string<Args...> format,
                         Args&&... args) const {
    user_error("{}: '{}' {}", source_.place_of(view.name), view.name,
               fmt::format(format, std::forward<Args>(args)...));
  }

  const TensorView& require(const std::string& name) const {
    const TensorView* view = source_.find(name);
    if (view != nullptr) return *view;
    user_error(
        "{}: '{}' is missing, which the {} weight '{}' needs (truncated, or not saved by "
        "bitsandbytes?).",
        source_.place_of(parameter_.name), name, name_of(format_), parameter_.name);
  }

  /// A part of `elements` elements of `type`.
  const TensorView& part(const std::string& suffix, DType type, std::int64_t elements) const {
    const TensorView& view = require(parameter_.name + suffix);
    const auto bytes = static_cast<std::int64_t>(view.bytes.size());
    if (view.dtype != type || bytes != elements * size_of(type)) {
      fail(view, "is {} of {} bytes; a weight of [{}, {}] has {} {} there.", view.type_name, bytes,
           rows(), columns(), elements, name_of(type));
    }
    return view;
  }

  void read_four_bit() {
    const std::int64_t needed = packed_code_bytes(format_, rows() * columns());
    if (static_cast<std::int64_t>(codes->bytes.size()) != needed) {
      fail(*codes, "has {} bytes; a weight of [{}, {}] in 4 bits has {}.", codes->bytes.size(),
           rows(), columns(), needed);
    }
    const TensorView& state =
        require(fmt::format("{}.quant_state.bitsandbytes__{}", parameter_.name, name_of(format_)));
    check_map(parameter_.name + ".quant_map", levels_of(format_));
    const bool nested = read_state(state);
    const std::int64_t blocks = packed_scales(format_, rows(), columns());
    scales = &part(".absmax", nested ? DType::u8 : DType::f32, blocks);
    if (!nested) return;
    nested_scales = &part(".nested_absmax", DType::f32, snug::nested_scales(blocks));
    check_map(parameter_.name + ".nested_quant_map", signed_dynamic_map());
  }

  void read_int8() {
    if (codes->dtype != DType::i8 ||
        static_cast<std::int64_t>(codes->bytes.size()) != rows() * columns()) {
      fail(*codes, "is {} of {} bytes; expected I8 [{}, {}].", codes->type_name,
           codes->bytes.size(), rows(), columns());
    }
    std::string base = parameter_.name;
    base.resize(base.rfind('.'));
    const TensorView& found = require(base + ".SCB");
    if (found.dtype != DType::f32 || static_cast<std::int64_t>(found.bytes.size()) != 4 * rows()) {
      fail(found, "is {} of {} bytes; expected F32 [{}].", found.type_name, found.bytes.size(),
           rows());
    }
    scales = &found;
    const TensorView* layout = source_.find(base + ".weight_format");
    if (layout != nullptr && (layout->bytes.size() != 1 || layout->bytes[0] != std::byte{0})) {
      fail(*layout,
           "is another layout than rows; save the model again with a bitsandbytes of "
           "2024 or later.");
    }
  }

  /// Reads the JSON of quant_state; whether the scales are quantised too.
  bool read_state(const TensorView& state) {
    const std::string where = fmt::format("{}: '{}'", source_.place_of(state.name), state.name);
    const Json json =
        parse_json({reinterpret_cast<const char*>(state.bytes.data()), state.bytes.size()}, where);
    const auto expect = [&](const char* key, const Json& wanted) {
      const auto found = json.is_object() ? json.find(key) : json.end();
      if (found != json.end() && *found == wanted) return;
      fail(state, "has {} {}; snug reads {}.", key,
           found == json.end() ? "missing" : found->dump(-1, ' ', true), wanted.dump());
    };
    expect("quant_type", name_of(format_));
    expect("blocksize", kPackedBlock);
    expect("shape", Json{rows(), columns()});
    const bool nested = json.contains("nested_offset");
    const bool wanted = component_of(parameter_, "nested_scales") != nullptr;
    if (nested != wanted) {
      fail(state,
           "says that scales are {}quantised; config.json's bnb_4bit_use_double_quant is {}.",
           nested ? "" : "not ", wanted);
    }
    if (!nested) return false;
    expect("nested_blocksize", kNestedBlock);
    if (!json["nested_offset"].is_number()) fail(state, "has a nested_offset that is no number.");
    nested_offset = json["nested_offset"].get<float>();
    return true;
  }

  /// Maps are stored with each weight; another one than ours would mean other values.
  void check_map(const std::string& name, std::span<const float> wanted) const {
    constexpr float kRounding = 1e-6F;
    const TensorView& view = require(name);
    bool same = view.dtype == DType::f32 && view.bytes.size() == wanted.size_bytes();
    for (std::size_t i = 0; same && i < wanted.size(); ++i) {
      float value = 0;
      std::memcpy(&value, view.bytes.data() + i * sizeof value, sizeof value);
      same = std::abs(value - wanted[i]) <= kRounding;
    }
    if (!same) fail(view, "is not the map of {}.", name_of(format_));
  }

  const Parameter& parameter_;
  const ModelWeights& source_;
  PackedFormat format_;
};

/// Elements of `type` in fp32, rounded through `through` first where it is given.
class ToFloat {
 public:
  ToFloat(DType type, std::optional<DType> through) : type_(type), through_(through) {}

  std::span<const float> operator()(std::span<const std::byte> from) {
    const auto count = from.size() / static_cast<std::size_t>(size_of(type_));
    if (through_) {
      rounded_.resize(count * static_cast<std::size_t>(size_of(*through_)));
      convert_elements(from, type_, rounded_, *through_);
      from = rounded_;
    }
    values_.resize(count);
    convert_elements(from, through_.value_or(type_), std::as_writable_bytes(std::span(values_)),
                     DType::f32);
    return values_;
  }

 private:
  DType type_;
  std::optional<DType> through_;
  std::vector<std::byte> rounded_;
  std::vector<float> values_;
};

/// Calls body(values, first element) for pieces of `plain`, each in fp32, on all threads.
template <class Body>
void for_pieces(const Parameter& parameter, std::span<const std::byte> plain, DType type,
                std::int64_t piece, ThreadPool& pool, const Body& body) {
  std::optional<DType> through;
  // bitsandbytes quantises to int8 from fp16.
  if (format_of(parameter) == PackedFormat::int8) through = DType::f16;
  std::vector<ToFloat> converters(static_cast<std::size_t>(pool.threads()), ToFloat(type, through));
  const std::int64_t width = size_of(type);
  const std::int64_t count = parameter.type.shape.elements();
  pool.run((count + piece - 1) / piece, [&](std::int64_t i, int worker) {
    const std::int64_t first = i * piece;
    const std::int64_t size = std::min(piece, count - first);
    body(converters[static_cast<std::size_t>(worker)](plain.subspan(
             static_cast<std::size_t>(first * width), static_cast<std::size_t>(size * width))),
         first);
  });
}

template <class T>
T* data_of(const Parameter& parameter, std::string_view component, ValueBytes bytes) {
  const StorageComponent* part = component_of(parameter, component);
  check(part != nullptr, "'{}' has no {}", parameter.name, component);
  return reinterpret_cast<T*>(bytes(part->value).data());
}

void pack_nf4(const Parameter& parameter, std::span<const std::byte> plain, DType type,
              ValueBytes bytes, ThreadPool& pool) {
  const bool nested = component_of(parameter, "nested_scales") != nullptr;
  auto* const codes = data_of<std::uint8_t>(parameter, "weight", bytes);
  std::vector<float> kept;
  float* scales = nullptr;
  if (nested) {
    kept.resize(static_cast<std::size_t>(component_of(parameter, "scales")->type.shape[0]));
    scales = kept.data();
  } else {
    scales = data_of<float>(parameter, "scales", bytes);
  }
  for_pieces(parameter, plain, type, kTaskElements, pool,
             [&](std::span<const float> values, std::int64_t first) {
               quantize_nf4(values, codes + first / 2, scales + first / kPackedBlock);
             });
  if (!nested) return;
  quantize_scales(kept, data_of<std::uint8_t>(parameter, "scales", bytes),
                  data_of<float>(parameter, "nested_scales", bytes),
                  data_of<float>(parameter, "nested_offset", bytes));
}

void copy(std::span<const std::byte> from, std::span<std::byte> to) {
  check(from.size() == to.size(), "{} bytes into {}", from.size(), to.size());
  std::copy(from.begin(), from.end(), to.begin());
}

}  // namespace

bool is_packed(const Parameter& parameter) {
  return packed_format_from_name(parameter.storage.front().format).has_value();
}

void check_packed(const Parameter& parameter, const ModelWeights& source) {
  const TensorView* view = source.find(parameter.name);
  if (view == nullptr || is_stored_plain(*view, parameter)) {
    source.require(parameter.name, parameter.type.shape.dims());
    if (format_of(parameter) == PackedFormat::fp4) {
      user_error(
          "{}: '{}' is not quantised; snug quantises to nf4 and reads fp4 only as stored. Use "
          "bnb_4bit_quant_type=nf4.",
          source.place_of(parameter.name), parameter.name);
    }
    return;
  }
  const StoredPacked checked(parameter, source);
}

void load_packed(const Parameter& parameter, const ModelWeights& source, ValueBytes bytes,
                 ThreadPool& pool) {
  check_packed(parameter, source);
  const TensorView& view = *source.find(parameter.name);
  if (is_stored_plain(view, parameter)) {
    pack_weight(parameter, view.bytes, *view.dtype, bytes, pool);
    source.drop_pages(view);
    return;
  }
  const StoredPacked stored(parameter, source);
  const auto target = [&](const char* name) { return bytes(component_of(parameter, name)->value); };
  copy(stored.codes->bytes, target("weight"));
  copy(stored.scales->bytes, target("scales"));
  if (stored.nested_scales != nullptr) {
    copy(stored.nested_scales->bytes, target("nested_scales"));
    copy(std::as_bytes(std::span(&stored.nested_offset, 1)), target("nested_offset"));
    source.drop_pages(*stored.nested_scales);
  }
  source.drop_pages(*stored.codes);
  source.drop_pages(*stored.scales);
}

void pack_weight(const Parameter& parameter, std::span<const std::byte> plain, DType type,
                 ValueBytes bytes, ThreadPool& pool) {
  if (format_of(parameter) != PackedFormat::int8) {
    check(format_of(parameter) == PackedFormat::nf4, "quantising to {}",
          name_of(format_of(parameter)));
    pack_nf4(parameter, plain, type, bytes, pool);
    return;
  }
  auto* const codes = data_of<std::int8_t>(parameter, "weight", bytes);
  auto* const scales = data_of<float>(parameter, "scales", bytes);
  const std::int64_t columns = parameter.type.shape[1];
  for_pieces(parameter, plain, type, columns, pool,
             [&](std::span<const float> row, std::int64_t first) {
               quantize_int8(row, codes + first, scales + first / columns);
             });
}

}  // namespace snug
