#pragma once
// One-node graphs, at least one for every kernel of the CPU back end. `$` stands for the element
// type of the case. Sizes are odd on purpose: they divide by no tile.

#include <algorithm>
#include <array>

#include "backend/conformance_case.h"
#include "backend/conformance_update_cases.h"

namespace snug::testing {

inline constexpr std::array kOtherCases = {
    ConformanceCase{"linear", 77, R"(
input %x $[37, 77]
input %w $[53, 77]
input %b $[53]
%y = linear(%x, %w, %b) : $[37, 53] @ forward
output %y)"},
    ConformanceCase{"linear_acc_f32_result", 77, R"(
input %x $[37, 77]
input %w $[53, 77]
input %acc f32[37, 53]
%y = linear(%x, %w, _, %acc) {dtype="f32"} : f32[37, 53] base=%acc @ forward
output %y)"},
    ConformanceCase{"linear_few_rows", 77, R"(
input %x $[3, 77]
input %w $[53, 77]
%y = linear(%x, %w, _) : $[3, 53] @ forward
output %y)"},
    ConformanceCase{"linear_of_a_view", 40, R"(
input %wide $[37, 77]
%x = view(%wide) {offset=5, shape="37,40", row_stride=77} : $[37, 40] base=%wide offset=5 stride=77 @ forward
input %w $[53, 40]
%y = linear(%x, %w, _) : $[37, 53] @ forward
output %y)"},
    ConformanceCase{"linear_dx", 53, R"(
input %dy $[37, 53]
input %w $[53, 77]
%dx = linear_dx(%dy, %w) : $[37, 77] @ backward
output %dx)"},
    ConformanceCase{"linear_dw", 37, R"(
input %dy $[37, 53]
input %x $[37, 77]
%dw = linear_dw(%dy, %x) {dtype="$", seed=1, stream=2} : $[53, 77] @ backward
output %dw)"},
    ConformanceCase{"linear_dw_acc", 37, R"(
input %dy $[37, 53]
input %x $[37, 77]
input %acc $[53, 77]
input %draw i64[] scalar
%dw = linear_dw(%dy, %x, %acc, %draw) {dtype="$", seed=1, stream=2} : $[53, 77] base=%acc @ backward
output %dw)"},
    ConformanceCase{"column_sum", 37, R"(
input %dy $[37, 53]
%db = column_sum(%dy) {dtype="$", seed=1, stream=2} : $[53] @ backward
output %db)"},
    ConformanceCase{"packed_linear", 77, R"(
input %x $[37, 77]
input %codes u8[2041]
input %scales f32[64]
input %b $[53]
%y = packed_linear(%x, %codes, %scales, _, _, %b) {format="nf4", rows=53} : $[37, 53] @ forward
output %y)"},
    ConformanceCase{"packed_linear_nested", 640, R"(
input %x $[70, 640]
input %codes u8[16960]
input %scale_codes u8[530]
input %scales f32[3]
input %offset f32[]
input %acc $[70, 53]
%y = packed_linear(%x, %codes, %scale_codes, %scales, %offset, _, %acc) {format="nf4", rows=53} : $[70, 53] base=%acc @ forward
output %y)"},
    ConformanceCase{"packed_linear_fp4", 128, R"(
input %x $[5, 128]
input %codes u8[3392]
input %scales f32[106]
%y = packed_linear(%x, %codes, %scales) {format="fp4", rows=53} : $[5, 53] @ forward
output %y)"},
    ConformanceCase{"packed_linear_int8", 77, R"(
input %x $[37, 77]
input %bytes i8[4081]
input %scales f32[53]
%y = packed_linear(%x, %bytes, %scales) {format="int8", rows=53} : $[37, 53] @ forward
output %y)"},
    ConformanceCase{"packed_linear_dx", 53, R"(
input %dy $[37, 53]
input %codes u8[2041]
input %scales f32[64]
%dx = packed_linear_dx(%dy, %codes, %scales) {format="nf4", columns=77} : $[37, 77] @ backward
output %dx)"},
    ConformanceCase{"packed_linear_dx_nested", 300, R"(
input %dy $[70, 300]
input %codes u8[19200]
input %scale_codes u8[600]
input %scales f32[3]
input %offset f32[]
input %acc $[70, 128]
%dx = packed_linear_dx(%dy, %codes, %scale_codes, %scales, %offset, %acc) {format="nf4", columns=128} : $[70, 128] base=%acc @ backward
output %dx)"},
    ConformanceCase{"packed_linear_dx_int8", 53, R"(
input %dy $[37, 53]
input %bytes i8[4081]
input %scales f32[53]
%dx = packed_linear_dx(%dy, %bytes, %scales) {format="int8", columns=77} : $[37, 77] @ backward
output %dx)"},
    ConformanceCase{"dequantize", 1, R"(
input %codes u8[2041]
input %scale_codes u8[64]
input %scales f32[1]
input %offset f32[]
%w = dequantize(%codes, %scale_codes, %scales, %offset) {format="nf4", shape="53,77", dtype="$"} : $[53, 77] @ forward
output %w)"},
    ConformanceCase{"rms_norm", 77, R"(
input %x $[37, 77]
input %w $[77]
%y = rms_norm(%x, %w) {eps=1e-06} : $[37, 77] @ forward
output %y)"},
    ConformanceCase{"rms_norm_of_heads", 24, R"(
input %x $[37, 3, 24]
input %w $[24]
%y = rms_norm(%x, %w) {eps=1e-06} : $[37, 3, 24] @ forward
output %y)"},
    ConformanceCase{"rms_norm_dx", 77, R"(
input %dy $[37, 77]
input %x $[37, 77]
input %w $[77]
%dx = rms_norm_dx(%dy, %x, %w) {eps=1e-06} : $[37, 77] @ backward
output %dx)"},
    ConformanceCase{"rms_norm_dw", 300, R"(
input %dy $[300, 77]
input %x $[300, 77]
%dw = rms_norm_dw(%dy, %x) {eps=1e-06, dtype="$", seed=1, stream=2} : $[77] @ backward
output %dw)"},
    ConformanceCase{"rope", 2, R"(
input %x $[37, 3, 20]
input %cos f32[64, 10]
input %sin f32[64, 10]
input %positions i32[37]
%y = rope(%x, %cos, %sin, %positions) : $[37, 3, 20] @ forward
output %y)"},
    ConformanceCase{"rope_table", 1, R"(
%cos, %sin = rope_table() {positions=64, half=10, kind="llama3", theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_positions=32} : f32[64, 10]; f32[64, 10] @ init
output %cos
output %sin)"},
    ConformanceCase{"attention", 150, R"(
input %q $[150, 6, 20]
input %k $[150, 2, 20]
input %v $[150, 2, 20]
input %doc_start i32[150]
%o, %lse = attention(%q, %k, %v, %doc_start) {scale=0.2, window=0} : $[150, 6, 20]; f32[6, 150] @ forward
output %o
output %lse)"},
    ConformanceCase{"attention_window", 150, R"(
input %q $[150, 6, 20]
input %k $[150, 2, 20]
input %v $[150, 2, 20]
input %doc_start i32[150]
%o, %lse = attention(%q, %k, %v, %doc_start) {scale=0.2, window=17} : $[150, 6, 20]; f32[6, 150] @ forward
output %o
output %lse)"},
    ConformanceCase{"attention_cached", 60, R"(
input %q $[5, 6, 20]
input %k $[90, 2, 20]
input %v $[90, 2, 20]
input %position i32[]
%o = attention_cached(%q, %k, %v, %position) {scale=0.2, window=0} : $[5, 6, 20] @ forward
output %o)"},
    ConformanceCase{"cache_write", 1, R"(
input %cache $[90, 2, 20]
input %x $[5, 2, 20]
input %position i32[]
%filled = cache_write(%cache, %x, %position) : $[90, 2, 20] base=%cache @ forward
output %filled)"},
    ConformanceCase{"write_rows", 1, R"(
input %whole $[90, 20]
input %part $[7, 20]
%written = write_rows(%whole, %part) {begin=5} : $[90, 20] base=%whole @ forward
output %written)"},
    ConformanceCase{"silu_mul", 1, R"(
input %gate $[37, 77]
input %up $[37, 77]
%y = silu_mul(%gate, %up) : $[37, 77] @ forward
output %y)"},
    ConformanceCase{"silu_mul_grad", 1, R"(
input %gate $[37, 77]
input %up $[37, 77]
input %dy $[37, 77]
%dgate, %dup = silu_mul_grad(%gate, %up, %dy) : $[37, 77]; $[37, 77] @ backward
output %dgate
output %dup)"},
    ConformanceCase{"scale_columns", 2, R"(
input %x $[37, 77]
input %m f32[77]
input %norms f32[77]
input %b $[77]
%y = scale_columns(%x, %m, %norms, %b) : $[37, 77] @ forward
output %y)"},
    ConformanceCase{"scale_columns_dw", 37, R"(
input %dy $[37, 77]
input %x $[37, 77]
input %norms f32[77]
%dm = scale_columns_dw(%dy, %x, %norms) {dtype="$", seed=1, stream=2} : $[77] @ backward
output %dm)"},
    ConformanceCase{"dora_norm", 154, R"(
input %w $[53, 77]
input %a $[5, 77]
input %up $[53, 5]
%y = dora_norm(%w, %a, %up) {scale=0.7} : f32[53] @ forward
output %y)"},
    ConformanceCase{"dropout", 1, R"(
input %x $[37, 77]
input %draw i64[] scalar
input %ids i32[37]
input %positions i32[37]
%y = dropout(%x, %draw, %ids, %positions) {rate=0.3, seed=1, stream=2} : $[37, 77] @ forward
output %y)"},
    ConformanceCase{"head_loss", 77, R"(
input %x $[37, 77]
input %w $[101, 77]
input %labels i32[37]
%loss = head_loss(%x, %w, %labels) {chunk_rows=16, chunk_columns=48} : f32[] @ forward
output %loss)"},
    ConformanceCase{"head_loss_grad", 101, R"(
input %x $[37, 77]
input %w $[101, 77]
input %labels i32[37]
input %weight f32[] scalar
%loss, %dx, %dw = head_loss_grad(%x, %w, %labels, %weight) {chunk_rows=0, dtype="$", seed=1, stream=2} : f32[]; $[37, 77]; $[101, 77] @ backward
output %loss
output %dx
output %dw)"},
    ConformanceCase{"head_loss_grad_by_chunks", 101, R"(
input %x $[37, 77]
input %w $[101, 77]
input %labels i32[37]
input %weight f32[] scalar
input %acc f32[101, 77]
%loss, %dx, %dw = head_loss_grad(%x, %w, %labels, %weight, %acc) {chunk_rows=16, chunk_columns=48, dtype="f32", seed=1, stream=2} : f32[]; $[37, 77]; f32[101, 77] base=%acc @ backward
output %loss
output %dx
output %dw)"},
    ConformanceCase{"head_loss_grad_by_tiles", 101, R"(
input %x $[37, 77]
input %w $[101, 77]
input %labels i32[37]
input %weight f32[] scalar
%loss, %dx, %dw = head_loss_grad(%x, %w, %labels, %weight) {chunk_columns=48, dtype="$", seed=1, stream=2} : f32[]; $[37, 77]; $[101, 77] @ backward
output %loss
output %dx
output %dw)"},
    ConformanceCase{"adapted_head_loss", 80, R"(
input %x $[37, 77]
input %w $[101, 77]
input %labels i32[37]
input %low $[37, 3]
input %up $[101, 3]
%loss = adapted_head_loss(%x, %w, %labels, %low, %up) {chunk_rows=16, chunk_columns=48} : f32[] @ forward
output %loss)"},
    ConformanceCase{"adapted_head_loss_grad", 101, R"(
input %x $[37, 77]
input %w $[101, 77]
input %labels i32[37]
input %low $[37, 3]
input %up $[101, 3]
input %weight f32[] scalar
input %acc f32[101, 3]
%loss, %dx, %dlow, %dup = adapted_head_loss_grad(%x, %w, %labels, %low, %up, %weight, %acc) {chunk_rows=16, chunk_columns=48, dtype="f32", seed=1, stream=2} : f32[]; $[37, 77]; $[37, 3]; f32[101, 3] base=%acc @ backward
output %loss
output %dx
output %dlow
output %dup)"},
    ConformanceCase{"embedding", 1, R"(
input %table $[101, 77]
input %ids i32[37]
%y = embedding(%table, %ids) : $[37, 77] @ forward
output %y)"},
    ConformanceCase{"embedding_dw", 37, R"(
input %dy $[37, 77]
input %ids i32[37]
%dw = embedding_dw(%dy, %ids) {rows=101, dtype="$", seed=1, stream=2} : $[101, 77] @ backward
output %dw)"},
    ConformanceCase{"add", 1, R"(
input %a $[37, 77]
input %b $[37, 77]
%y = add(%a, %b) : $[37, 77] @ forward
output %y)"},
    ConformanceCase{"scale", 1, R"(
input %a $[37, 77]
%y = scale(%a) {factor=0.3} : $[37, 77] @ forward
output %y)"},
    ConformanceCase{"cast", 1, R"(
input %a $[37, 77]
%y = cast(%a) {dtype="f32"} : f32[37, 77] @ forward
output %y)"},
    ConformanceCase{"copy", 1, R"(
input %a $[37, 77]
%y = copy(%a) : $[37, 77] @ forward
output %y)"},
    ConformanceCase{"fill", 1, R"(
%y = fill() {value=0.5, dtype="$", shape="37,77"} : $[37, 77] @ init
output %y)"},
    ConformanceCase{"global_norm", 41000, R"(
input %a $[37, 77]
input %b $[410, 100]
%norm, %clip, %finite = global_norm(%a, %b) {max_norm=1.0} : f32[]; f32[]; i32[] @ update
output %norm
output %clip
output %finite)"},
    ConformanceCase{"unscale_norm", 1, R"(
input %norm f32[]
input %inverse f32[]
%true, %clip = unscale_norm(%norm, %inverse) {max_norm=1.0} : f32[]; f32[] @ update
output %true
output %clip)"},
    ConformanceCase{"apply_gate", 1, R"(
input %finite i32[]
input %wanted i32[]
%y = apply_gate(%finite, %wanted) : i32[] @ update
output %y)"},
    ConformanceCase{"attention_grad", 150, R"(
input %q $[150, 6, 20]
input %k $[150, 2, 20]
input %v $[150, 2, 20]
input %doc_start i32[150]
%o, %lse = attention(%q, %k, %v, %doc_start) {scale=0.2, window=0} : $[150, 6, 20]; f32[6, 150] @ forward
input %do $[150, 6, 20]
%dq, %dk, %dv = attention_grad(%q, %k, %v, %doc_start, %o, %lse, %do) {scale=0.2, window=0} : $[150, 6, 20]; $[150, 2, 20]; $[150, 2, 20] @ backward
output %dq
output %dk
output %dv)"},
};

inline constexpr auto kConformanceCases = [] {
  std::array<ConformanceCase, kOtherCases.size() + kUpdateCases.size()> all{};
  std::copy(kUpdateCases.begin(), kUpdateCases.end(),
            std::copy(kOtherCases.begin(), kOtherCases.end(), all.begin()));
  return all;
}();

}  // namespace snug::testing
