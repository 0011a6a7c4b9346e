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
#include "io/model_files.h"
#include "ir/parameters.h"

namespace snug {

/// The bytes of a run-scoped value, by name.
using ValueBytes = FunctionRef<std::span<std::byte>(std::string_view name)>;

/// Copies `count` elements between float types, rounding to nearest even; bf16 to bf16 is a copy.
void convert_elements(std::span<const std::byte> from, DType from_type, std::span<std::byte> to,
                      DType to_type);

/// Fills every parameter's weight, and its master where there is one, from a model folder. Tied
/// parameters may be stored under any of their names. UserError for a missing tensor or a shape
/// that differs. Pages of a tensor are given back as soon as it is copied.
void load_weights(const ParameterTable& parameters, const ModelWeights& source, ValueBytes bytes);

/// Fills every parameter as its table row says: normal(0, standard_deviation) by Philox(seed, name,
/// element), zeros or ones.
void initialise_weights(const ParameterTable& parameters, double standard_deviation,
                        std::uint64_t seed, ValueBytes bytes, ThreadPool& pool);

/// The tensors of a saved model: each parameter once, in its stored type.
std::vector<TensorSpec> weight_specs(const ParameterTable& parameters);

/// Everything a parameter stores beside its weight (master, moments), as tensors under value names.
std::vector<TensorSpec> state_specs(const ParameterTable& parameters);

}  // namespace snug
