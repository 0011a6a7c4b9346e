#pragma once
// A base's weights as a merge reads them: plain tensors, or the values quantised ones stand for.

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/thread_pool.h"
#include "train/packed_weights.h"
#include "train/run_setup.h"

namespace snug {

/// Rows of one matrix, in fp32.
class BaseRows {
 public:
  /// Of a plain tensor, which must outlive the rows.
  explicit BaseRows(const TensorView& view) : view_(&view) {}
  /// Of a weight that is stored packed, or is quantised as it would be for training.
  BaseRows(const Parameter& parameter, const ModelWeights& source, ThreadPool& pool);

  BaseRows(const BaseRows&) = delete;  // the matrix points into the parts
  BaseRows& operator=(const BaseRows&) = delete;

  void read(std::int64_t row, std::span<float> to) const;

 private:
  const TensorView* view_ = nullptr;
  std::map<std::string, std::vector<std::byte>, std::less<>> parts_;
  PackedMatrix matrix_;
};

/// One tensor to be written.
struct BaseTensor {
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;
  const TensorView* plain = nullptr;  ///< nullptr: packed
  const Parameter* packed = nullptr;
};

/// The tensors of a model's folder. Quantised weights count as the matrices they stand for, in the
/// type that config.json names. The parts of their storage are no tensors, nor is what the files
/// hold beside the model.
class BaseTensors {
 public:
  /// `settings` say whether plain linear weights are quantised too. UserError as check_packed.
  BaseTensors(const ModelSource& model, const Settings& settings);

  const ModelWeights& weights() const { return weights_; }
  /// In the files' order.
  const std::vector<std::string>& names() const { return names_; }
  /// nullptr when there is none.
  const BaseTensor* find(const std::string& name) const;
  BaseRows rows(const BaseTensor& tensor, ThreadPool& pool) const;
  void drop_pages(const BaseTensor& tensor) const;

 private:
  ModelWeights weights_;
  ParameterTable parameters_;
  std::vector<std::string> names_;
  std::map<std::string, BaseTensor> tensors_;
};

}  // namespace snug
