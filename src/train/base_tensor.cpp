#include "train/base_tensor.h"

#include "backend/cpu/unpack.h"
#include "core/error.h"
#include "passes/pipeline.h"
#include "passes/quantize.h"
#include "train/stored_model.h"
#include "train/weights.h"

namespace snug {
namespace {

/// The model's parameters as its settings store them, without an adapter.
ParameterTable base_parameters(const ModelSource& model, const Settings& settings) {
  Settings base = settings;
  base.model.finetuning = FinetuningType::full;
  base.freeze = {};
  return compile_generation(model.config, {.tokens = 1, .cache_rows = 1, .logit_rows = 1}, base)
      .parameters;
}

}  // namespace

BaseRows::BaseRows(const Parameter& parameter, const ModelWeights& source, ThreadPool& pool) {
  for (const StorageComponent& part : parameter.storage) {
    parts_[part.value].resize(static_cast<std::size_t>(part.type.bytes()));
  }
  const auto bytes = [&](std::string_view name) { return std::span(parts_.find(name)->second); };
  load_packed(parameter, source, bytes, pool);
  matrix_ = packed_matrix(parameter, bytes);
}

void BaseRows::read(std::int64_t row, std::span<float> to) const {
  const auto columns = static_cast<std::int64_t>(to.size());
  if (view_ == nullptr) {
    unpack(matrix_, {row, 1, 0, columns}, to.data(), DType::f32, columns);
    return;
  }
  const auto row_bytes = to.size() * static_cast<std::size_t>(size_of(*view_->dtype));
  convert_elements(view_->bytes.subspan(static_cast<std::size_t>(row) * row_bytes, row_bytes),
                   *view_->dtype, std::as_writable_bytes(to), DType::f32);
}

BaseTensors::BaseTensors(const ModelSource& model, const Settings& settings)
    : weights_(model.folder) {
  if (quantizes(settings.quantization)) parameters_ = base_parameters(model, settings);
  check_packed_weights(parameters_, weights_);
  std::map<std::string, const Parameter*> packed;
  for (const Parameter& parameter : parameters_) {
    if (is_packed(parameter)) packed[parameter.name] = &parameter;
  }
  const auto known = tensor_names(model.config);
  for (const std::string_view view_name : weights_.names()) {
    if (!known.contains(view_name)) continue;  // a part of a packed weight, or left over
    const std::string name(view_name);
    const TensorView& view = *weights_.find(name);
    const auto found = packed.find(name);
    BaseTensor tensor;
    if (found != packed.end()) {
      const auto dims = found->second->type.shape.dims();
      tensor = {.dtype = view.dtype && is_float(*view.dtype)
                             ? *view.dtype
                             : model.config.dtype.value_or(DType::bf16),
                .shape = {dims.begin(), dims.end()},
                .packed = found->second};
    } else if (!view.dtype || !is_float(*view.dtype)) {
      user_error("'{}' of the base is stored as {}; merge writes F64, F32, BF16 and F16.", name,
                 view.type_name);
    } else {
      tensor = {.dtype = *view.dtype, .shape = view.shape, .plain = &view};
    }
    names_.push_back(name);
    tensors_.emplace(name, std::move(tensor));
  }
}

const BaseTensor* BaseTensors::find(const std::string& name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

BaseRows BaseTensors::rows(const BaseTensor& tensor, ThreadPool& pool) const {
  return tensor.plain != nullptr ? BaseRows(*tensor.plain)
                                 : BaseRows(*tensor.packed, weights_, pool);
}

void BaseTensors::drop_pages(const BaseTensor& tensor) const {
  if (tensor.plain != nullptr) weights_.drop_pages(*tensor.plain);
}

}  // namespace snug
