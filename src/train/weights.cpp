#include "train/weights.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numbers>

#include "core/error.h"
#include "core/philox.h"

namespace snug {
namespace {

/// Sizes are known to the compiler, so that the loop becomes vector code.
template <class From, class To>
void convert(const std::byte* from, std::byte* to, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    From value;
    std::memcpy(&value, from + i * sizeof(From), sizeof(From));
    const To result = static_cast<To>(static_cast<float>(value));
    std::memcpy(to + i * sizeof(To), &result, sizeof(To));
  }
}

const StorageComponent* component_of(const Parameter& parameter, std::string_view name) {
  for (const StorageComponent& part : parameter.storage) {
    if (part.component == name && part.format == "plain") return &part;
  }
  return nullptr;
}

/// The stored tensor of a parameter under its own name or one it is tied to.
const TensorView& stored_tensor(const Parameter& parameter, const ModelWeights& source) {
  for (const std::string& tied : parameter.tied_names) {
    if (source.find(parameter.name) == nullptr && source.find(tied) != nullptr) {
      return source.require(tied, parameter.type.shape.dims());
    }
  }
  return source.require(parameter.name, parameter.type.shape.dims());
}

/// Two normal numbers from one block (Box-Muller).
std::array<double, 2> normals(const PhiloxBlock& block) {
  constexpr double kUnit = 1.0 / 4294967296.0;
  const double radius = std::sqrt(-2.0 * std::log((block[0] + 0.5) * kUnit));
  const double angle = 2.0 * std::numbers::pi * (block[1] + 0.5) * kUnit;
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

void fill_normal(std::span<std::byte> to, DType type, double deviation, std::uint64_t seed,
                 const std::string& name, ThreadPool& pool) {
  constexpr std::int64_t kBlock = 1 << 16;  // elements; even, so that no pair is split
  const RandomStream stream{.seed = seed, .stream = stream_hash(name + "/init")};
  const std::int64_t width = size_of(type);
  const std::int64_t count = static_cast<std::int64_t>(to.size()) / width;
  pool.run((count + kBlock - 1) / kBlock, [&](std::int64_t block, int) {
    const std::int64_t end = std::min((block + 1) * kBlock, count);
    for (std::int64_t i = block * kBlock; i < end; i += 2) {
      const auto pair = normals(stream.block(static_cast<std::uint64_t>(i / 2)));
      for (std::int64_t j = i; j < std::min(i + 2, end); ++j) {
        const auto value = static_cast<float>(deviation * pair[static_cast<std::size_t>(j - i)]);
        convert_elements(
            {reinterpret_cast<const std::byte*>(&value), sizeof value}, DType::f32,
            to.subspan(static_cast<std::size_t>(j * width), static_cast<std::size_t>(width)), type);
      }
    }
  });
}

void fill_constant(std::span<std::byte> to, DType type, float value) {
  const auto width = static_cast<std::size_t>(size_of(type));
  for (std::size_t at = 0; at < to.size(); at += width) {
    convert_elements({reinterpret_cast<const std::byte*>(&value), sizeof value}, DType::f32,
                     to.subspan(at, width), type);
  }
}

}  // namespace

void convert_elements(std::span<const std::byte> from, DType from_type, std::span<std::byte> to,
                      DType to_type) {
  check(is_float(from_type) && is_float(to_type), "conversion of {} to {}", name_of(from_type),
        name_of(to_type));
  if (from_type == to_type) {
    std::copy(from.begin(), from.end(), to.begin());
    return;
  }
  const std::size_t count = to.size() / static_cast<std::size_t>(size_of(to_type));
  visit_dtype(from_type, [&](auto source) {
    visit_dtype(to_type, [&](auto target) {
      using From = decltype(source);
      using To = decltype(target);
      if constexpr (!std::is_integral_v<From> && !std::is_integral_v<To>) {
        convert<From, To>(from.data(), to.data(), count);
      }
    });
  });
}

void load_weights(const ParameterTable& parameters, const ModelWeights& source, ValueBytes bytes) {
  for (const Parameter& parameter : parameters) {
    const TensorView& view = stored_tensor(parameter, source);
    if (!view.dtype || !is_float(*view.dtype)) {
      user_error("'{}' is stored as {}; snug reads weights in F32, BF16 and F16.", view.name,
                 view.type_name);
    }
    for (const char* name : {"weight", "master"}) {
      const StorageComponent* part = component_of(parameter, name);
      if (part == nullptr) continue;
      convert_elements(view.bytes, *view.dtype, bytes(part->value), part->type.dtype);
    }
    source.drop_pages(view);
  }
}

void initialise_weights(const ParameterTable& parameters, double standard_deviation,
                        std::uint64_t seed, ValueBytes bytes, ThreadPool& pool) {
  for (const Parameter& parameter : parameters) {
    for (const char* name : {"weight", "master"}) {
      const StorageComponent* part = component_of(parameter, name);
      if (part == nullptr) continue;
      const std::span<std::byte> to = bytes(part->value);
      const DType type = part->type.dtype;
      if (parameter.initial == Initial::normal) {
        fill_normal(to, type, standard_deviation, seed, parameter.name, pool);
      } else {
        fill_constant(to, type, parameter.initial == Initial::ones ? 1.0F : 0.0F);
      }
    }
  }
}

std::vector<TensorSpec> weight_specs(const ParameterTable& parameters) {
  std::vector<TensorSpec> specs;
  for (const Parameter& parameter : parameters) {
    const auto dims = parameter.type.shape.dims();
    specs.push_back({parameter.name, parameter.type.dtype, {dims.begin(), dims.end()}});
  }
  return specs;
}

std::vector<TensorSpec> state_specs(const ParameterTable& parameters) {
  std::vector<TensorSpec> specs;
  for (const Parameter& parameter : parameters) {
    for (const StorageComponent& part : parameter.storage) {
      if (part.component == "weight") continue;
      const auto dims = part.type.shape.dims();
      specs.push_back({part.value, part.type.dtype, {dims.begin(), dims.end()}});
    }
  }
  return specs;
}

}  // namespace snug
