#include "io/safetensors.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <tuple>

#include "core/error.h"
#include "core/json.h"
#include "core/text.h"

namespace snug {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

/// An element type of the format.
struct StoredType {
  std::string_view name;
  std::int64_t bits;
  std::optional<DType> dtype;
};

constexpr auto kTypes = std::to_array<StoredType>({
    {"F64", 64, DType::f64},
    {"F32", 32, DType::f32},
    {"BF16", 16, DType::bf16},
    {"F16", 16, DType::f16},
    {"I64", 64, DType::i64},
    {"I32", 32, DType::i32},
    {"U8", 8, DType::u8},
    {"I8", 8, DType::i8},
    {"BOOL", 8, std::nullopt},
    {"I16", 16, std::nullopt},
    {"U16", 16, std::nullopt},
    {"U32", 32, std::nullopt},
    {"U64", 64, std::nullopt},
    {"C64", 64, std::nullopt},
    {"F8_E4M3", 8, std::nullopt},
    {"F8_E5M2", 8, std::nullopt},
    {"F8_E8M0", 8, std::nullopt},
    {"F8_E4M3FNUZ", 8, std::nullopt},
    {"F8_E5M2FNUZ", 8, std::nullopt},
    {"F6_E2M3", 6, std::nullopt},
    {"F6_E3M2", 6, std::nullopt},
    {"F4", 4, std::nullopt},
});

constexpr std::int64_t kLengthBytes = 8;
constexpr std::int64_t kMostHeaderBytes = 100'000'000;  // the library's limit

/// A tensor's header entry, with its place in the data.
struct Entry {
  TensorView view;
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

/// Where a message happens: `FILE: 'TENSOR'`.
std::string at(const fs::path& path, std::string_view tensor) {
  return fmt::format("{}: '{}'", path.string(), tensor);
}

std::int64_t header_length(const fs::path& path, std::span<const std::byte> file) {
  const auto size = static_cast<std::int64_t>(file.size());
  if (size < kLengthBytes) {
    user_error("{}: {} bytes is no safetensors file (interrupted download?).", path.string(), size);
  }
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < kLengthBytes; ++i) {
    length |= std::to_integer<std::uint64_t>(file[i]) << (8 * i);
  }
  if (length > static_cast<std::uint64_t>(kMostHeaderBytes)) {
    user_error("{}: no safetensors file: its first 8 bytes give a header of {} bytes.",
               path.string(), length);
  }
  const auto end = kLengthBytes + static_cast<std::int64_t>(length);
  if (end > size) {
    user_error("{}: the header ends at byte {}, the file at {} (interrupted download?).",
               path.string(), group_digits(end), group_digits(size));
  }
  return static_cast<std::int64_t>(length);
}

/// A size of the header: an integer in [0, 2^62].
std::int64_t size_of_json(const Json& value, const std::string& where, std::string_view what) {
  constexpr std::uint64_t kMost = std::uint64_t{1} << 62;
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > kMost) {
    user_error("{} has {} where {} belongs.", where, value.dump(-1, ' ', true), what);
  }
  return value.get<std::int64_t>();
}

/// Bytes of `shape` elements of `bits` each, or none beyond 2^62 or for a fraction of a byte.
std::optional<std::int64_t> bytes_of(const std::vector<std::int64_t>& shape, std::int64_t bits) {
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  std::int64_t total = bits;
  for (const std::int64_t size : shape) {
    if (__builtin_mul_overflow(total, size, &total)) return std::nullopt;
  }
  if (total % 8 != 0) return std::nullopt;
  return total / 8;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

Entry read_entry(const fs::path& path, const std::string& name, const Json& json) {
  const std::string where = at(path, name);
  for (const char* key : {"dtype", "shape", "data_offsets"}) {
    if (!json.is_object() || !json.contains(key)) user_error("{} has no '{}'.", where, key);
  }
  const Json& type = json["dtype"];
  const auto stored = std::find_if(kTypes.begin(), kTypes.end(),
                                   [&](const StoredType& t) { return type == t.name; });
  if (stored == kTypes.end()) {
    user_error("{} has dtype {}, which the format does not know.", where, type.dump(-1, ' ', true));
  }
  const Json& shape = json["shape"];
  const Json& offsets = json["data_offsets"];
  if (!shape.is_array()) user_error("{} has a shape that is no list.", where);
  if (!offsets.is_array() || offsets.size() != 2) {
    user_error("{} has data_offsets that are no pair.", where);
  }
  Entry entry;
  entry.view.name = name;
  entry.view.type_name = stored->name;
  entry.view.dtype = stored->dtype;
  for (const Json& size : shape) {
    entry.view.shape.push_back(size_of_json(size, where, "a size of its shape"));
  }
  entry.begin = size_of_json(offsets[0], where, "its first byte");
  entry.end = size_of_json(offsets[1], where, "its end");
  const auto bytes = bytes_of(entry.view.shape, stored->bits);
  if (!bytes || entry.begin > entry.end || *bytes != entry.end - entry.begin) {
    user_error("{} is {} {}, but its data_offsets are [{}, {}].", where, stored->name,
               shape_text(entry.view.shape), entry.begin, entry.end);
  }
  return entry;
}

std::map<std::string, std::string> read_metadata(const fs::path& path, const Json& header) {
  std::map<std::string, std::string> metadata;
  const auto found = header.find("__metadata__");
  if (found == header.end() || found->is_null()) return metadata;
  if (!found->is_object()) user_error("{}: '__metadata__' is no object.", path.string());
  for (const auto& [key, value] : found->items()) {
    if (!value.is_string()) user_error("{} is no text.", at(path, "__metadata__." + key));
    metadata[key] = value.get<std::string>();
  }
  return metadata;
}

/// Checks that the entries, in order of position, cover the data exactly.
void check_cover(const fs::path& path, const std::vector<Entry>& entries, std::int64_t data_begin,
                 std::int64_t file_bytes) {
  std::int64_t covered = 0;
  for (const Entry& entry : entries) {
    const std::string where = at(path, entry.view.name);
    if (entry.end > file_bytes - data_begin) {
      user_error("{} ends at byte {}, the file at {} (interrupted download?).", where,
                 group_digits(data_begin + entry.end), group_digits(file_bytes));
    }
    if (entry.begin < covered) {
      user_error("{} begins at byte {}, inside the tensor before it, which ends at {}.", where,
                 group_digits(data_begin + entry.begin), group_digits(data_begin + covered));
    }
    if (entry.begin > covered) {
      user_error("{} begins at byte {}, after a gap from {} on.", where,
                 group_digits(data_begin + entry.begin), group_digits(data_begin + covered));
    }
    covered = entry.end;
  }
  if (data_begin + covered != file_bytes) {
    user_error("{}: the last tensor ends at byte {}, the file at {}.", path.string(),
               group_digits(data_begin + covered), group_digits(file_bytes));
  }
}

}  // namespace

SafetensorsFile::SafetensorsFile(const fs::path& path) : path_(path), file_(path) {
  const auto file = file_.bytes();
  const std::int64_t length = header_length(path, file);
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + kLengthBytes,
                              static_cast<std::size_t>(length));
  const Json header = parse_json(text, path.string());
  if (!header.is_object()) user_error("{}: the header is no JSON object.", path.string());
  metadata_ = read_metadata(path, header);
  std::vector<Entry> entries;
  for (const auto& [name, json] : header.items()) {
    if (name != "__metadata__") entries.push_back(read_entry(path, name, json));
  }
  // Empty tensors share their position with the next one and come before it.
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
  });
  const std::int64_t data_begin = kLengthBytes + length;
  check_cover(path, entries, data_begin, static_cast<std::int64_t>(file.size()));
  tensors_.reserve(entries.size());
  for (Entry& entry : entries) {
    entry.view.bytes = file.subspan(static_cast<std::size_t>(data_begin + entry.begin),
                                    static_cast<std::size_t>(entry.end - entry.begin));
    index_.emplace(entry.view.name, tensors_.size());
    tensors_.push_back(std::move(entry.view));
  }
}

const TensorView* SafetensorsFile::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

}  // namespace snug
