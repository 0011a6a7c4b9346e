#pragma once
// Weights and optimizer state between files and the arenas, tensor by tensor.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "core/function_ref.h"
#include "core/thread_pool.h"
#include "io/adapter_files.h"
#include "io/model_files.h"
#include "ir/parameters.h"
#include "train/packed_weights.h"
#include "train/run_setup.h"

namespace snug {

/// The stored tensor of a parameter, under its own name or one it is tied to. UserError as
/// ModelWeights::require.
const TensorView& stored_tensor(const Parameter& parameter, const ModelWeights& source);

/// Copies `count` elements between float types, rounding to nearest even; bf16 to bf16 is a copy.
void convert_elements(std::span<const std::byte> from, DType from_type, std::span<std::byte> to,
                      DType to_type);

/// Whether two stored tensors have the same shape and, rounded to `type`, the same values.
bool same_values(const TensorView& a, const TensorView& b, DType type);

/// Fills the weight of every parameter that the model's folder holds, and its master where there
/// is one. Tied parameters may be stored under any of their names. UserError for a missing tensor
/// or a shape that differs. Pages of a tensor are given back as soon as it is copied. Packed
/// weights are quantised on the way, or read as they are stored.
void load_weights(const ParameterTable& parameters, const ModelWeights& source, ValueBytes bytes,
                  ThreadPool& pool);

/// check_packed() for every packed parameter: what can be wrong with a quantised folder is said
/// before memory is reserved.
void check_packed_weights(const ParameterTable& parameters, const ModelWeights& source);

/// The same for every parameter that an adapter's folder holds.
void load_adapter(const ParameterTable& parameters, const AdapterWeights& source, ValueBytes bytes);

/// Fills the parameters of these owners as their table rows say: random numbers by Philox(seed,
/// name, element), the normal ones with `standard_deviation`. Norms are of weights filled before.
void initialise_weights(const ParameterTable& parameters, std::span<const Owner> owners,
                        double standard_deviation, std::uint64_t seed, ValueBytes bytes,
                        ThreadPool& pool);

/// Fills every parameter before step 1: the model's from its folder or at random, then the
/// adapter's likewise.
void fill_weights(const ParameterTable& parameters, const ModelSource& model, std::uint64_t seed,
                  ValueBytes bytes, ThreadPool& pool);

/// UserError unless the model's adapter folder, where there is one, fits the table, and the weights
/// of the base that it brings are the base's. `saved` are its modules_to_save.
void check_adapter(const ParameterTable& parameters, const ModelSource& model,
                   const std::vector<std::string>& saved);

/// UserError for a weight of the base that PEFT saved with the adapter, and would put in the base's
/// place, where it has other values than the base's in its type.
void check_brought_weights(const AdapterWeights& adapter, const ModelWeights& base,
                           const std::vector<std::string>& saved);

/// Whether what a run saves is an adapter.
bool has_adapter(const ParameterTable& parameters);

/// What a run saves: the adapter's parameters where there are some, in F32 but for copies of the
/// model's, else the model's; each once, in its logical type.
class SavedWeights {
 public:
  explicit SavedWeights(const ParameterTable& parameters);

  std::vector<TensorSpec> specs() const;
  /// Hands the tensor's bytes to `sink`, made from the master where there is one.
  void write(const TensorSpec& tensor, ValueBytes bytes,
             FunctionRef<void(std::span<const std::byte>)> sink) const;

 private:
  struct Source {
    TensorSpec spec;
    std::string value;
    DType type;
  };
  std::map<std::string, Source, std::less<>> sources_;
  std::vector<std::string> order_;
};

/// Everything a parameter stores beside its weight (master, moments), as tensors under value names.
std::vector<TensorSpec> state_specs(const ParameterTable& parameters);

}  // namespace snug
