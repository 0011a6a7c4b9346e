#include "train/merge.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "backend/backend.h"
#include "core/error.h"
#include "core/json.h"
#include "core/thread_pool.h"
#include "io/adapter_files.h"
#include "io/atomic_folder.h"
#include "io/model_writer.h"
#include "passes/lora.h"
#include "train/base_tensor.h"
#include "train/run_setup.h"
#include "train/weights.h"

namespace snug {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kDown = ".lora_A.weight";
constexpr std::string_view kUp = ".lora_B.weight";
constexpr std::string_view kMagnitude = ".lora_magnitude_vector";
constexpr std::string_view kWeight = ".weight";
constexpr std::string_view kEmbeddingAdapter = ".lora_embedding_";
constexpr std::string_view kHead = "lm_head.weight";
constexpr std::string_view kTable = "model.embed_tokens.weight";
constexpr std::int64_t kBlockElements = std::int64_t{1} << 18;  ///< of fp32 sums at a time

/// What the adapter does to one tensor of the base.
struct Change {
  const TensorView* down = nullptr;
  const TensorView* up = nullptr;
  const TensorView* magnitude = nullptr;
  const TensorView* replacement = nullptr;
};

/// config.json of the values that quantised weights stand for.
std::string config_unquantized(const std::string& json) {
  parse_json(json, "config.json");  // refuses what the plain parser below would let pass
  auto object = nlohmann::ordered_json::parse(json);
  object.erase("quantization_config");
  return object.dump(2) + "\n";
}

std::vector<float> as_floats(const TensorView& view) {
  std::int64_t count = 1;
  for (const std::int64_t size : view.shape) count *= size;
  std::vector<float> values(static_cast<std::size_t>(count));
  convert_elements(view.bytes, *view.dtype, std::as_writable_bytes(std::span(values)), DType::f32);
  return values;
}

class Merger {
 public:
  Merger(const Settings& settings, ModelSource model)
      : settings_(settings),
        model_(std::move(model)),
        base_(model_, settings),
        adapter_(model_.adapter),
        pool_(make_target(settings.device).threads) {
    check_brought_weights(adapter_, base_.weights(), settings.lora.modules_to_save);
    read_changes();
    list_tensors();
  }

  MergeResult write(const fs::path& output) {
    std::string config = model_.config_json;
    if (untied_) config = config_untied(config, "config.json");
    if (model_.config.quantization) config = config_unquantized(config);
    const std::map<std::string, std::string> texts = {{"config.json", config}};
    const ModelFolderWriter writer(specs_, texts, model_.folder);
    AtomicFolder folder(output);
    writer.write(folder.path(), [&](const TensorSpec& tensor, ModelFolderWriter::Sink sink) {
      write_tensor(tensor, sink);
    });
    folder.commit();
    result_.bytes = writer.total_bytes();
    result_.notes = model_.notes;
    return result_;
  }

 private:
  /// The adapter's tensors by the base's tensor they change.
  void read_changes() {
    for (const TensorView& view : adapter_.file().tensors()) {
      if (!view.dtype || !is_float(*view.dtype)) fail(view, "is no float tensor");
      const std::string prefix = adapter_tensor_name("");
      if (!view.name.starts_with(prefix)) fail(view, "does not start with " + prefix);
      const std::string name = view.name.substr(prefix.size());
      if (brings_base_weight(name, settings_.lora.modules_to_save)) continue;
      if (name.find(kEmbeddingAdapter) != name.npos) {
        fail(view, "is an adapter of an embedding; snug has adapters for linear layers only");
      }
      const auto change = [&](std::string_view ending) -> Change& {
        return changes_[name.substr(0, name.size() - ending.size()) + std::string(kWeight)];
      };
      if (name.ends_with(kDown)) {
        change(kDown).down = &view;
      } else if (name.ends_with(kUp)) {
        change(kUp).up = &view;
      } else if (name.ends_with(kMagnitude)) {
        change(kMagnitude).magnitude = &view;
      } else {
        changes_[name].replacement = &view;
      }
    }
    for (const auto& [name, change] : changes_) check_change(name, change);
  }

  [[noreturn]] void fail(const TensorView& view, const std::string& why) const {
    user_error("{}: '{}' {}.", adapter_.file().path().string(), view.name, why);
  }

  const BaseTensor& base_of(const std::string& name) const {
    const BaseTensor* tensor = base_.find(name);
    if (tensor == nullptr && model_.config.tie_word_embeddings &&
        (name == kHead || name == kTable)) {
      tensor = base_.find(std::string(name == kHead ? kTable : kHead));
    }
    if (tensor == nullptr) {
      user_error("{}: its base '{}' has no '{}'. The adapter belongs to another base.",
                 adapter_.file().path().string(), model_.folder.string(), name);
    }
    return *tensor;
  }

  void check_change(const std::string& name, const Change& change) const {
    const BaseTensor& base = base_of(name);
    if (change.replacement != nullptr) {
      if (change.replacement->shape != base.shape) {
        fail(*change.replacement, "has another shape than the base's");
      }
      return;
    }
    if (change.down == nullptr || change.up == nullptr) {
      user_error("{}: of the adapter of '{}' lora_A or lora_B is missing.",
                 adapter_.file().path().string(), name);
    }
    const std::int64_t rank = scale_of(name).rank;
    const auto& shape = base.shape;
    if (shape.size() != 2 || change.down->shape != std::vector{rank, shape[1]}) {
      fail(*change.down, fmt::format("does not have the shape of rank {} on this base", rank));
    }
    if (change.up->shape != std::vector{shape[0], rank}) {
      fail(*change.up, fmt::format("does not have the shape of rank {} on this base", rank));
    }
    const bool dora = settings_.lora.dora;
    if (dora != (change.magnitude != nullptr) ||
        (dora && change.magnitude->shape != std::vector{shape[0]})) {
      fail(*change.down, fmt::format("{} a magnitude of [{}], use_dora is {}",
                                     dora ? "lacks" : "has", shape[0], dora));
    }
  }

  AdapterScale scale_of(const std::string& name) const {
    return adapter_scale(settings_.lora, name.substr(0, name.size() - kWeight.size()));
  }

  void list_tensors() {
    for (const std::string& name : base_.names()) add(name, *base_.find(name));
    if (!model_.config.tie_word_embeddings) return;
    // A tied head stays tied while both are what they were.
    const std::string head(kHead);
    untied_ = changes_.contains(head) || changes_.contains(std::string(kTable));
    if (!untied_) return;
    for (const std::string& name : {head, std::string(kTable)}) {
      if (base_.find(name) == nullptr) add(name, base_of(name));
    }
  }

  void add(const std::string& name, const BaseTensor& tensor) {
    specs_.push_back({name, tensor.dtype, tensor.shape});
  }

  void write_tensor(const TensorSpec& tensor, ModelFolderWriter::Sink sink) {
    const BaseTensor& base = base_of(tensor.name);
    ++result_.tensors;
    const auto found = changes_.find(tensor.name);
    if (found == changes_.end()) {
      base.plain != nullptr ? sink(base.plain->bytes) : write_rows(tensor, base, {}, sink);
    } else if (found->second.replacement != nullptr) {
      ++result_.replaced;
      write_converted(*found->second.replacement, tensor.dtype, sink);
    } else {
      ++result_.merged;
      write_merged(tensor, base, found->second, sink);
    }
    base_.drop_pages(base);
  }

  using ChangeRow = std::function<void(std::int64_t row, std::span<float> values)>;

  /// The base's rows in fp32, changed where there is a change, rounded once.
  void write_rows(const TensorSpec& tensor, const BaseTensor& base, const ChangeRow& change,
                  ModelFolderWriter::Sink sink) {
    const BaseRows values = base_.rows(base, pool_);
    const std::int64_t columns = tensor.shape[1];
    const std::int64_t rows = std::max<std::int64_t>(1, kBlockElements / columns);
    const std::int64_t row_bytes = columns * size_of(tensor.dtype);
    std::vector<float> sums(static_cast<std::size_t>(rows * columns));
    std::vector<std::byte> block(static_cast<std::size_t>(rows * row_bytes));
    for (std::int64_t begin = 0; begin < tensor.shape[0]; begin += rows) {
      const std::int64_t count = std::min(rows, tensor.shape[0] - begin);
      pool_.run(count, [&](std::int64_t r, int) {
        const std::span<float> row(sums.data() + r * columns, static_cast<std::size_t>(columns));
        values.read(begin + r, row);
        if (change) change(begin + r, row);
        convert_elements(std::as_bytes(row), DType::f32,
                         {block.data() + r * row_bytes, static_cast<std::size_t>(row_bytes)},
                         tensor.dtype);
      });
      sink({block.data(), static_cast<std::size_t>(count * row_bytes)});
    }
  }

  void write_converted(const TensorView& view, DType to, ModelFolderWriter::Sink sink) const {
    const auto in = static_cast<std::size_t>(size_of(*view.dtype));
    const auto out = static_cast<std::size_t>(size_of(to));
    std::vector<std::byte> block(static_cast<std::size_t>(kBlockElements) * out);
    for (std::span<const std::byte> rest = view.bytes; !rest.empty();) {
      const std::size_t count =
          std::min(rest.size() / in, static_cast<std::size_t>(kBlockElements));
      const std::span<std::byte> part(block.data(), count * out);
      convert_elements(rest.first(count * in), *view.dtype, part, to);
      sink(part);
      rest = rest.subspan(count * in);
    }
    adapter_.file().drop_pages(view);
  }

  void write_merged(const TensorSpec& tensor, const BaseTensor& base, const Change& change,
                    ModelFolderWriter::Sink sink) {
    const auto scale = static_cast<float>(scale_of(tensor.name).scale);
    const std::vector<float> down = as_floats(*change.down);
    const std::vector<float> up = as_floats(*change.up);
    const std::vector<float> magnitude =
        change.magnitude == nullptr ? std::vector<float>() : as_floats(*change.magnitude);
    const std::int64_t rank = change.down->shape[0];
    const auto change_row = [&](std::int64_t r, std::span<float> row) {
      add_row(row, down, {up.data() + r * rank, static_cast<std::size_t>(rank)}, scale);
      if (!magnitude.empty()) set_norm(row, magnitude[static_cast<std::size_t>(r)]);
    };
    write_rows(tensor, base, change_row, sink);
    for (const TensorView* view : {change.down, change.up}) adapter_.file().drop_pages(*view);
  }

  /// row += scale up a, the product summed first.
  static void add_row(std::span<float> row, const std::vector<float>& down,
                      std::span<const float> up, float scale) {
    constexpr std::size_t kTile = 256;
    float delta[kTile];
    for (std::size_t begin = 0; begin < row.size(); begin += kTile) {
      const std::size_t count = std::min(kTile, row.size() - begin);
      std::fill_n(delta, count, 0.0F);
      for (std::size_t j = 0; j < up.size(); ++j) {
        const float* a = down.data() + j * row.size() + begin;
        for (std::size_t k = 0; k < count; ++k) delta[k] += up[j] * a[k];
      }
      for (std::size_t k = 0; k < count; ++k) row[begin + k] += scale * delta[k];
    }
  }

  static void set_norm(std::span<float> row, float magnitude) {
    double squares = 0;
    for (const float x : row) squares += static_cast<double>(x) * static_cast<double>(x);
    const auto factor = static_cast<float>(static_cast<double>(magnitude) / std::sqrt(squares));
    for (float& x : row) x *= factor;
  }

  const Settings& settings_;
  ModelSource model_;
  BaseTensors base_;
  AdapterWeights adapter_;
  ThreadPool pool_;
  std::map<std::string, Change> changes_;
  std::vector<TensorSpec> specs_;
  bool untied_ = false;
  MergeResult result_;
};

}  // namespace

MergeResult merge_adapter(const Settings& settings, const fs::path& output) {
  if (settings.model.adapter.empty()) {
    user_error("merge needs an adapter: model=FOLDER of one, or adapter_name_or_path=FOLDER.");
  }
  if (fs::exists(output)) {
    user_error("'{}' is there already. Name another output_dir.", output.string());
  }
  ModelSource model = open_model(settings.model);
  Settings base = settings;
  adopt_stored_dtype(base, model);
  adopt_quantization(base, model);
  return Merger(base, std::move(model)).write(output);
}

}  // namespace snug
