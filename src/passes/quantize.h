#pragma once
// Quantised base weights (QLoRA, arXiv 2305.14314): frozen linear weights of the layers are stored
// packed (core/packed_format.h) and dequantised inside the products that read them.

#include <string>

#include "core/packed_format.h"
#include "core/settings.h"
#include "model/config.h"
#include "passes/pass.h"

namespace snug {

/// Whether anything is quantised.
bool quantizes(const QuantizationOptions& options);
/// The format that weights are packed in.
PackedFormat packed_format(const QuantizationOptions& options);

/// What is said of a run: `, nf4 base, double quantised`; empty when nothing is quantised.
std::string describe_base(const QuantizationOptions& options);

/// The options that a folder's weights are stored by.
QuantizationOptions quantization_of(const StoredQuantization& stored);

/// Packs the frozen weights of the layers' linear products, but those of `skip`: the products
/// become packed_linear, the parameter's storage the components `weight` (codes), `scales` and,
/// double quantised, `nested_scales` and `nested_offset`. What else reads such a weight gets it
/// from a dequantize node. UserError when the options ask for it and the model's own weights are
/// trained.
Pass quantize_pass(const QuantizationOptions& options);

}  // namespace snug
