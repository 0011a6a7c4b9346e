#pragma once
// A stored tensor on its way into a file: converted and reordered a few MiB at a time.

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/function_ref.h"
#include "io/ggml_types.h"
#include "io/safetensors.h"

namespace snug {

/// Hands the elements of `view` to `sink` as `type`, in parts of whole rows.
///
/// With `heads` above 0 the rows of each of that many heads are dealt out: transformers' rotary
/// embedding turns rows i and i + d/2 of a head together, llama.cpp's for Llama rows 2i and 2i + 1,
/// so row 2i + j is taken from i + j·d/2.
///
/// UserError naming the tensor for a number that the type cannot hold.
void stream_tensor(const TensorView& view, GgmlType type, std::int64_t heads,
                   FunctionRef<void(std::span<const std::byte>)> sink);

/// The type of floats that has the same bytes; F32 for F64.
GgmlType ggml_type(DType type);

}  // namespace snug
