#pragma once
// One update with operands of its own, on any back end.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "backend/kernel_testing.h"
#include "backend/reference/elements.h"
#include "ir/builder.h"
#include "plan/kernel.h"

namespace snug::testing {

/// What an update is made of.
struct UpdateCase {
  Op op;
  Attributes attributes = {};
  Shape shape = {};
  DType weight = DType::f32;
  DType gradient = DType::f32;
  bool master = false;
  bool stochastic = false;
  std::vector<TensorType> states = {};  ///< of the shapes the op wants
  std::size_t scalars = 0;
};

inline TensorType codes_of(const Shape& shape) { return {DType::u8, shape}; }
inline TensorType absmax_of(const Shape& shape) {
  return {DType::f32, {(shape.elements() + kCodeBlock - 1) / kCodeBlock}};
}

class UpdateRun {
 public:
  explicit UpdateRun(UpdateCase c) : case_(std::move(c)) {
    add({case_.weight, case_.shape}, true);
    add({case_.gradient, case_.shape}, true);
    add({DType::f32, case_.shape}, case_.master);
    add({DType::f32, {}}, true);
    add({DType::f32, {}}, true);
    add({DType::i32, {}}, true);
    add({DType::i64, {}}, case_.stochastic);
    for (const TensorType& state : case_.states) add(state, true);
    for (std::size_t i = 0; i < case_.scalars; ++i) add({DType::f32, {}}, true);
    set(kUpdateRate, {0.1});
    set(kUpdateClip, {1});
    set(kUpdateApply, {1});
    if (case_.stochastic) set(kUpdateDraw, {12});
    for (std::size_t i = 0; i < case_.states.size(); ++i) {
      set(kUpdateStates + i,
          std::vector<double>(static_cast<std::size_t>(case_.states[i].shape.elements()), 0.0));
    }
  }

  void set(std::size_t operand, const std::vector<double>& values) {
    const reference::Elements to(operands_[operand]);
    for (std::size_t i = 0; i < values.size(); ++i) to.set(static_cast<std::int64_t>(i), values[i]);
  }
  void set_scalar(std::size_t i, double value) {
    set(kUpdateStates + case_.states.size() + i, {value});
  }
  std::vector<double> get(std::size_t operand) const {
    const reference::Elements from(operands_[operand]);
    std::vector<double> values;
    for (std::int64_t i = 0; from.present() && i < from.size(); ++i) values.push_back(from[i]);
    return values;
  }
  /// Weight, master and states.
  std::vector<std::vector<double>> results() const {
    std::vector<std::vector<double>> all{get(kUpdateWeight), get(kUpdateMaster)};
    for (std::size_t i = 0; i < case_.states.size(); ++i) all.push_back(get(kUpdateStates + i));
    return all;
  }

  /// Runs the back end's first kernel for the operands.
  void run(const KernelSource& source, int threads) {
    std::vector<Operand> outputs{operands_[kUpdateWeight]};
    for (std::size_t i = 0; i < case_.states.size(); ++i) {
      outputs.push_back(operands_[kUpdateStates + i]);
    }
    if (case_.master) outputs.push_back(operands_[kUpdateMaster]);
    std::vector<OperandLayout> in;
    std::vector<OperandLayout> out;
    for (const Operand& operand : operands_) in.push_back(operand.layout);
    for (const Operand& operand : outputs) out.push_back(operand.layout);
    Target target;
    target.threads = threads;
    const KernelQuery query{case_.op, case_.attributes, in, out, target};
    const Kernel& kernel = *source.kernels(case_.op).front();
    ASSERT_TRUE(kernel.refuses == nullptr || !kernel.refuses(query));
    ScratchArea scratch(kernel.grant == nullptr ? 0 : kernel.grant(query));
    ThreadPool pool(threads);
    kernel.run({case_.attributes, operands_, outputs, scratch.span(), nullptr, pool});
    for (const auto& buffer : buffers_) buffer->expect_guards_untouched();
  }

 private:
  void add(const TensorType& type, bool present) {
    buffers_.push_back(std::make_unique<Guarded<std::int64_t>>((type.bytes() + 7) / 8));
    const std::int64_t row = type.shape.rank() == 0
                                 ? 1
                                 : type.shape.elements() / std::max<std::int64_t>(1, type.shape[0]);
    auto* data = reinterpret_cast<std::byte*>(buffers_.back()->data());
    operands_.push_back({present ? data : nullptr, {type, row, present}});
  }

  UpdateCase case_;
  std::vector<std::unique_ptr<Guarded<std::int64_t>>> buffers_;
  std::vector<Operand> operands_;
};

}  // namespace snug::testing
