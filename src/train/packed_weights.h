#pragma once
// Packed weights between files and the arenas: bitsandbytes' tensors as they are, or plain weights
// quantised on the way.

#include <cstdint>
#include <span>
#include <string_view>

#include "core/dtype.h"
#include "core/function_ref.h"
#include "core/packed_format.h"
#include "core/thread_pool.h"
#include "io/model_files.h"
#include "ir/parameters.h"

namespace snug {

/// The bytes of a run-scoped value, by name.
using ValueBytes = FunctionRef<std::span<std::byte>(std::string_view name)>;

/// Whether the parameter's weight is stored packed.
bool is_packed(const Parameter& parameter);

/// The packed weight in its storage, which it points into.
PackedMatrix packed_matrix(const Parameter& parameter, ValueBytes bytes);

/// UserError unless the folder has the parameter's weight: plain and of its shape, or packed as the
/// storage says, with block sizes, maps and sizes of all parts checked. Reads no codes.
void check_packed(const Parameter& parameter, const ModelWeights& source);

/// Fills the packed storage. Plain weights are quantised from their stored values, so that every
/// verb has the same codes whatever type it computes in. Pages of what was read are given back.
void load_packed(const Parameter& parameter, const ModelWeights& source, ValueBytes bytes,
                 ThreadPool& pool);

/// Quantises a plain tensor of `type` into the packed storage.
void pack_weight(const Parameter& parameter, std::span<const std::byte> plain, DType type,
                 ValueBytes bytes, ThreadPool& pool);

}  // namespace snug
