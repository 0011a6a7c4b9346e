#include "train/weights.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numbers>
#include <optional>

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

/// Two normal numbers from one block (Box-Muller).
std::array<double, 2> normals(const PhiloxBlock& block) {
  constexpr double kUnit = 1.0 / 4294967296.0;
  const double radius = std::sqrt(-2.0 * std::log((block[0] + 0.5) * kUnit));
  const double angle = 2.0 * std::numbers::pi * (block[1] + 0.5) * kUnit;
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

/// Fills `to` with pair(block) of blocks 0, 1, ... of the stream NAME/init.
template <class Pair>
void fill_pairs(std::span<std::byte> to, DType type, std::uint64_t seed, const std::string& name,
                ThreadPool& pool, const Pair& pair_of) {
  constexpr std::int64_t kBlock = 1 << 16;  // elements; even, so that no pair is split
  const RandomStream stream{.seed = seed, .stream = stream_hash(name + "/init")};
  const std::int64_t width = size_of(type);
  const std::int64_t count = static_cast<std::int64_t>(to.size()) / width;
  pool.run((count + kBlock - 1) / kBlock, [&](std::int64_t block, int) {
    const std::int64_t end = std::min((block + 1) * kBlock, count);
    for (std::int64_t i = block * kBlock; i < end; i += 2) {
      const std::array<double, 2> pair = pair_of(stream.block(static_cast<std::uint64_t>(i / 2)));
      for (std::int64_t j = i; j < std::min(i + 2, end); ++j) {
        const auto value = static_cast<float>(pair[static_cast<std::size_t>(j - i)]);
        convert_elements(
            {reinterpret_cast<const std::byte*>(&value), sizeof value}, DType::f32,
            to.subspan(static_cast<std::size_t>(j * width), static_cast<std::size_t>(width)), type);
      }
    }
  });
}

void fill_normal(std::span<std::byte> to, DType type, double deviation, std::uint64_t seed,
                 const std::string& name, ThreadPool& pool) {
  fill_pairs(to, type, seed, name, pool, [&](const PhiloxBlock& block) {
    const auto pair = normals(block);
    return std::array{deviation * pair[0], deviation * pair[1]};
  });
}

void fill_uniform(std::span<std::byte> to, DType type, double bound, std::uint64_t seed,
                  const std::string& name, ThreadPool& pool) {
  constexpr double kUnit = 1.0 / 4294967296.0;
  fill_pairs(to, type, seed, name, pool, [&](const PhiloxBlock& block) {
    return std::array{bound * (2.0 * (block[0] + 0.5) * kUnit - 1.0),
                      bound * (2.0 * (block[1] + 0.5) * kUnit - 1.0)};
  });
}

/// Reads rows of a weight as f32, whatever it is stored in.
class WeightRows {
 public:
  WeightRows(const Parameter& parameter, ValueBytes bytes) : columns_(parameter.type.shape[1]) {
    const StorageComponent* part = component_of(parameter, "weight");
    if (part != nullptr) {
      type_ = part->type.dtype;
      plain_ = bytes(part->value);
    } else {
      packed_ = packed_matrix(parameter, bytes);
    }
  }

  void read(std::int64_t row, std::span<float> to) const {
    if (packed_) {
      for (std::int64_t c = 0; c < columns_; ++c) {
        to[static_cast<std::size_t>(c)] = packed_->element(row, c);
      }
      return;
    }
    const auto row_bytes = static_cast<std::size_t>(columns_ * size_of(type_));
    convert_elements(plain_.subspan(static_cast<std::size_t>(row) * row_bytes, row_bytes), type_,
                     std::as_writable_bytes(to), DType::f32);
  }

 private:
  std::int64_t columns_;
  DType type_ = DType::f32;
  std::span<const std::byte> plain_;
  std::optional<PackedMatrix> packed_;
};

/// The norms of the rows of another parameter's weight.
void fill_row_norms(std::span<std::byte> to, DType type, const ParameterTable& parameters,
                    const std::string& measured, ValueBytes bytes) {
  const auto found = std::find_if(parameters.begin(), parameters.end(),
                                  [&](const Parameter& p) { return p.name == measured; });
  check(found != parameters.end(), "no parameter '{}' to measure", measured);
  const WeightRows rows(*found, bytes);
  std::vector<float> row(static_cast<std::size_t>(found->type.shape[1]));
  const auto width = static_cast<std::size_t>(size_of(type));
  for (std::int64_t r = 0; r < found->type.shape[0]; ++r) {
    rows.read(r, row);
    double squares = 0;
    for (const float x : row) squares += static_cast<double>(x) * static_cast<double>(x);
    const auto norm = static_cast<float>(std::sqrt(squares));
    convert_elements(std::as_bytes(std::span(&norm, 1)), DType::f32,
                     to.subspan(static_cast<std::size_t>(r) * width, width), type);
  }
}

void fill_constant(std::span<std::byte> to, DType type, float value) {
  const auto width = static_cast<std::size_t>(size_of(type));
  for (std::size_t at = 0; at < to.size(); at += width) {
    convert_elements({reinterpret_cast<const std::byte*>(&value), sizeof value}, DType::f32,
                     to.subspan(at, width), type);
  }
}

}  // namespace

const TensorView& stored_tensor(const Parameter& parameter, const ModelWeights& source) {
  for (const std::string& tied : parameter.tied_names) {
    if (source.find(parameter.name) == nullptr && source.find(tied) != nullptr) {
      return source.require(tied, parameter.type.shape.dims());
    }
  }
  return source.require(parameter.name, parameter.type.shape.dims());
}

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

namespace {

/// A stored tensor by its name, or that of the embedding's table for a tied head and the other way.
const TensorView* find_tied(const std::string& name, const ModelWeights& source) {
  if (const TensorView* view = source.find(name)) return view;
  if (name == "lm_head.weight") return source.find("model.embed_tokens.weight");
  return name == "model.embed_tokens.weight" ? source.find("lm_head.weight") : nullptr;
}

/// Elements of a stored tensor from `first` on, rounded to `type`, in fp32.
void read_rounded(const TensorView& view, std::size_t first, DType type, std::span<float> to) {
  const auto width = static_cast<std::size_t>(size_of(*view.dtype));
  std::vector<std::byte> rounded(to.size() * static_cast<std::size_t>(size_of(type)));
  convert_elements(view.bytes.subspan(first * width, to.size() * width), *view.dtype, rounded,
                   type);
  convert_elements(rounded, type, std::as_writable_bytes(to), DType::f32);
}

/// Copies a stored tensor into the parameter's weight and master.
void copy_in(const Parameter& parameter, const TensorView& view, ValueBytes bytes) {
  for (const char* name : {"weight", "master"}) {
    const StorageComponent* part = component_of(parameter, name);
    if (part == nullptr) continue;
    convert_elements(view.bytes, *view.dtype, bytes(part->value), part->type.dtype);
  }
}

}  // namespace

bool same_values(const TensorView& a, const TensorView& b, DType type) {
  const auto is_number = [](const TensorView& view) { return view.dtype && is_float(*view.dtype); };
  if (a.shape != b.shape || !is_number(a) || !is_number(b)) return false;
  constexpr std::size_t kElements = 1 << 16;
  const std::size_t count = a.bytes.size() / static_cast<std::size_t>(size_of(*a.dtype));
  std::vector<float> left(std::min(count, kElements));
  std::vector<float> right(left.size());
  for (std::size_t first = 0; first < count; first += kElements) {
    const std::size_t part = std::min(kElements, count - first);
    left.resize(part);
    right.resize(part);
    read_rounded(a, first, type, left);
    read_rounded(b, first, type, right);
    if (left != right) return false;
  }
  return true;
}

void load_weights(const ParameterTable& parameters, const ModelWeights& source, ValueBytes bytes,
                  ThreadPool& pool) {
  for (const Parameter& parameter : parameters) {
    if (parameter.owner == Owner::adapter) continue;
    if (is_packed(parameter)) {
      load_packed(parameter, source, bytes, pool);
      continue;
    }
    const TensorView& view = stored_tensor(parameter, source);
    if (!view.dtype || !is_float(*view.dtype)) {
      user_error("'{}' is stored as {}; snug reads weights in F32, BF16 and F16.", view.name,
                 view.type_name);
    }
    copy_in(parameter, view, bytes);
    source.drop_pages(view);
  }
}

void check_packed_weights(const ParameterTable& parameters, const ModelWeights& source) {
  for (const Parameter& parameter : parameters) {
    if (is_packed(parameter)) check_packed(parameter, source);
  }
}

void load_adapter(const ParameterTable& parameters, const AdapterWeights& source,
                  ValueBytes bytes) {
  for (const Parameter& parameter : parameters) {
    if (parameter.owner == Owner::model) continue;
    const TensorView& view = source.require(parameter);
    copy_in(parameter, view, bytes);
    source.file().drop_pages(view);
  }
}

void initialise_weights(const ParameterTable& parameters, std::span<const Owner> owners,
                        double standard_deviation, std::uint64_t seed, ValueBytes bytes,
                        ThreadPool& pool) {
  for (const Parameter& parameter : parameters) {
    if (std::find(owners.begin(), owners.end(), parameter.owner) == owners.end()) continue;
    if (is_packed(parameter)) {
      std::vector<std::byte> plain(static_cast<std::size_t>(parameter.type.bytes()));
      fill_normal(plain, parameter.type.dtype, standard_deviation, seed, parameter.name, pool);
      pack_weight(parameter, plain, parameter.type.dtype, bytes, pool);
      continue;
    }
    for (const char* name : {"weight", "master"}) {
      const StorageComponent* part = component_of(parameter, name);
      if (part == nullptr) continue;
      const std::span<std::byte> to = bytes(part->value);
      const DType type = part->type.dtype;
      switch (parameter.initial) {
        case Initial::normal:
          fill_normal(to, type, standard_deviation, seed, parameter.name, pool);
          break;
        case Initial::fan_in_uniform:
          fill_uniform(to, type, 1.0 / std::sqrt(static_cast<double>(parameter.type.shape[1])),
                       seed, parameter.name, pool);
          break;
        case Initial::row_norms:
          fill_row_norms(to, type, parameters, parameter.measured, bytes);
          break;
        case Initial::zeros:
        case Initial::ones:
          fill_constant(to, type, parameter.initial == Initial::ones ? 1.0F : 0.0F);
          break;
      }
    }
  }
}

void fill_weights(const ParameterTable& parameters, const ModelSource& model, std::uint64_t seed,
                  ValueBytes bytes, ThreadPool& pool) {
  const double deviation = model.config.initializer_range;
  if (model.has_weights) {
    load_weights(parameters, ModelWeights(model.folder), bytes, pool);
  } else {
    constexpr std::array kOfModel{Owner::model, Owner::copy};
    initialise_weights(parameters, kOfModel, deviation, seed, bytes, pool);
  }
  if (model.adapter.empty()) {
    constexpr std::array kOfAdapter{Owner::adapter};
    initialise_weights(parameters, kOfAdapter, deviation, seed, bytes, pool);
  } else {
    load_adapter(parameters, AdapterWeights(model.adapter), bytes);
  }
}

void check_adapter(const ParameterTable& parameters, const ModelSource& model,
                   const std::vector<std::string>& saved) {
  if (model.adapter.empty()) return;
  const AdapterWeights adapter(model.adapter);
  adapter.check_against(parameters, saved);
  if (model.has_weights) check_brought_weights(adapter, ModelWeights(model.folder), saved);
}

void check_brought_weights(const AdapterWeights& adapter, const ModelWeights& base,
                           const std::vector<std::string>& saved) {
  constexpr std::string_view kInside = ".base_layer";
  const std::string prefix = adapter_tensor_name("");
  for (const TensorView& view : adapter.file().tensors()) {
    if (!view.name.starts_with(prefix)) continue;
    std::string name = view.name.substr(prefix.size());
    if (!brings_base_weight(name, saved)) continue;
    if (const auto at = name.find(kInside); at != name.npos) name.erase(at, kInside.size());
    const TensorView* own = find_tied(name, base);
    const bool same = own != nullptr && same_values(view, *own, view.dtype.value_or(DType::f32));
    adapter.file().drop_pages(view);
    if (own != nullptr) base.drop_pages(*own);
    if (same) continue;
    user_error(
        "{}: '{}' replaces the base's '{}' in PEFT, and has other values. snug leaves the base as "
        "it is. Merge this adapter with PEFT (merge_and_unload), or name the embedding in "
        "modules_to_save when training it.",
        adapter.file().path().string(), view.name, name);
  }
}

bool has_adapter(const ParameterTable& parameters) {
  return std::any_of(parameters.begin(), parameters.end(),
                     [](const Parameter& p) { return p.owner != Owner::model; });
}

SavedWeights::SavedWeights(const ParameterTable& parameters) {
  const bool adapter = has_adapter(parameters);
  for (const Parameter& parameter : parameters) {
    if (adapter && parameter.owner == Owner::model) continue;
    const auto dims = parameter.type.shape.dims();
    TensorSpec spec{adapter ? adapter_tensor_name(parameter.name) : parameter.name,
                    parameter.type.dtype,
                    {dims.begin(), dims.end()}};
    const StorageComponent* stored = component_of(parameter, "weight");
    const StorageComponent* master = component_of(parameter, "master");
    if (master != nullptr && stored->type.dtype != spec.dtype) stored = master;
    check(stored != nullptr, "'{}' is not stored as it is", parameter.name);
    order_.push_back(spec.name);
    sources_.emplace(spec.name, Source{spec, stored->value, stored->type.dtype});
  }
}

std::vector<TensorSpec> SavedWeights::specs() const {
  std::vector<TensorSpec> specs;
  for (const std::string& name : order_) specs.push_back(sources_.at(name).spec);
  return specs;
}

void SavedWeights::write(const TensorSpec& tensor, ValueBytes bytes,
                         FunctionRef<void(std::span<const std::byte>)> sink) const {
  const Source& source = sources_.at(tensor.name);
  std::span<const std::byte> from = bytes(source.value);
  if (source.type == tensor.dtype) return sink(from);
  constexpr std::size_t kElements = 1 << 16;
  std::vector<std::byte> block(kElements * static_cast<std::size_t>(size_of(tensor.dtype)));
  const auto in = static_cast<std::size_t>(size_of(source.type));
  const auto out = static_cast<std::size_t>(size_of(tensor.dtype));
  for (; !from.empty(); from = from.subspan(std::min(kElements * in, from.size()))) {
    const std::size_t count = std::min(kElements, from.size() / in);
    const std::span<std::byte> to(block.data(), count * out);
    convert_elements(from.first(count * in), source.type, to, tensor.dtype);
    sink(to);
  }
}

std::vector<TensorSpec> state_specs(const ParameterTable& parameters) {
  std::vector<TensorSpec> specs;
  for (const Parameter& parameter : parameters) {
    for (const StorageComponent& part : parameter.storage) {
      if (part.component == "weight" || is_packed(parameter)) continue;
      const auto dims = part.type.shape.dims();
      specs.push_back({part.value, part.type.dtype, {dims.begin(), dims.end()}});
    }
  }
  return specs;
}

}  // namespace snug
