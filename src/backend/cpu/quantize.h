#pragma once
// Quantising weights into packed storage (core/packed_format.h), bit-equal to bitsandbytes.

#include <cstdint>
#include <span>

namespace snug {

/// NF4: codes and one scale for each block of `values`, the last block possibly short; an odd end
/// is padded with the code of 0. A code is the number of midpoints of neighbouring levels strictly
/// below value * (1 / scale). A block of zeros has scale 0 and codes of 0.
void quantize_nf4(std::span<const float> values, std::uint8_t* codes, float* scales);

/// int8: one row. The scale is the largest magnitude, a code value * (1 / scale * 127) rounded
/// to nearest even. A row of zeros has scale 0 and codes 0.
void quantize_int8(std::span<const float> row, std::int8_t* codes, float* scale);

/// Double quantisation of fp32 scales: their mean is `offset`; what is left is divided by the
/// largest magnitude of its kNestedBlock, `nested`, and takes the nearest code of the signed
/// dynamic map.
void quantize_scales(std::span<const float> scales, std::uint8_t* codes, float* nested,
                     float* offset);

}  // namespace snug
