#pragma once
// One-node graphs whose operands are several times a card's cache, for measuring; `$` is bf16.

#include <array>

#include "backend/conformance_case.h"

namespace snug::testing {

/// Operands by name: speed.cpp.
inline constexpr std::array kSpeedCases = {
    ConformanceCase{"adamw_stochastic", 1, R"(
input %w $[8192, 8192] weight run
input %g $[8192, 8192]
input %lr f32[] scalar
input %draw i64[] scalar
input %m $[8192, 8192] optimizer_state run
input %v $[8192, 8192] optimizer_state run
input %c1 f32[] scalar
input %c2 f32[] scalar
%w2, %m2, %v2 = adamw(%w, %g, _, %lr, _, _, %draw, %m, %v, %c1, %c2) {beta1=0.9, beta2=0.999, eps=1e-08, weight_decay=0.1, seed=7, stream=9} : $[8192, 8192] weight run base=%w; $[8192, 8192] optimizer_state run base=%m; $[8192, 8192] optimizer_state run base=%v @ update
output %w2
output %m2
output %v2)"},
    ConformanceCase{"adamw_master", 1, R"(
input %w $[8192, 8192] weight run
input %g $[8192, 8192]
input %master f32[8192, 8192] master run
input %lr f32[] scalar
input %m f32[8192, 8192] optimizer_state run
input %v f32[8192, 8192] optimizer_state run
input %c1 f32[] scalar
input %c2 f32[] scalar
%w2, %m2, %v2, %p2 = adamw(%w, %g, %master, %lr, _, _, _, %m, %v, %c1, %c2) {beta1=0.9, beta2=0.999, eps=1e-08, weight_decay=0.1} : $[8192, 8192] weight run base=%w; f32[8192, 8192] optimizer_state run base=%m; f32[8192, 8192] optimizer_state run base=%v; f32[8192, 8192] master run base=%master @ update
output %w2
output %m2
output %v2
output %p2)"},
    ConformanceCase{"adamw_8bit", 1, R"(
input %w $[8192, 8192] weight run
input %g $[8192, 8192]
input %lr f32[] scalar
input %draw i64[] scalar
input %codes1 u8[8192, 8192] optimizer_state run
input %absmax1 f32[262144] optimizer_state run
input %codes2 u8[8192, 8192] optimizer_state run
input %absmax2 f32[262144] optimizer_state run
input %c1 f32[] scalar
input %c2 f32[] scalar
%w2, %codes12, %absmax12, %codes22, %absmax22 = adamw_8bit(%w, %g, _, %lr, _, _, %draw, %codes1, %absmax1, %codes2, %absmax2, %c1, %c2) {beta1=0.9, beta2=0.999, eps=1e-08, weight_decay=0.1, root=0, seed=7, stream=9} : $[8192, 8192] weight run base=%w; u8[8192, 8192] optimizer_state run base=%codes1; f32[262144] optimizer_state run base=%absmax1; u8[8192, 8192] optimizer_state run base=%codes2; f32[262144] optimizer_state run base=%absmax2 @ update
output %w2
output %codes12
output %absmax12
output %codes22
output %absmax22)"},
    ConformanceCase{"lion_stochastic", 1, R"(
input %w $[8192, 8192] weight run
input %g $[8192, 8192]
input %lr f32[] scalar
input %draw i64[] scalar
input %m f32[8192, 8192] optimizer_state run
%w2, %m2 = lion(%w, %g, _, %lr, _, _, %draw, %m) {beta1=0.9, beta2=0.99, weight_decay=0.1, seed=7, stream=9} : $[8192, 8192] weight run base=%w; f32[8192, 8192] optimizer_state run base=%m @ update
output %w2
output %m2)"},
    ConformanceCase{"adafactor", 1, R"(
input %w $[8192, 8192] weight run
input %g $[8192, 8192]
input %lr f32[] scalar
input %draw i64[] scalar
input %absmax1 f32[8192] optimizer_state run
input %absmax2 f32[8192] optimizer_state run
input %rate f32[] scalar
input %rest f32[] scalar
%w2, %absmax12, %absmax22 = adafactor(%w, %g, _, %lr, _, _, %draw, %absmax1, %absmax2, %rate, %rest) {form="transformers", eps1=1e-30, eps2=0.001, clip_threshold=1.0, scale_parameter=0, weight_decay=0.1, seed=7, stream=9} : $[8192, 8192] weight run base=%w; f32[8192] optimizer_state run base=%absmax1; f32[8192] optimizer_state run base=%absmax2 @ update
output %w2
output %absmax12
output %absmax22)"},
    ConformanceCase{"global_norm", 1, R"(
input %a $[16384, 8192]
%norm, %clip, %finite = global_norm(%a) {max_norm=1.0} : f32[]; f32[]; i32[] @ update
output %norm
output %clip
output %finite)"},
    ConformanceCase{"rms_norm", 1, R"(
input %x $[16384, 4096]
input %w $[4096]
%y = rms_norm(%x, %w) {eps=1e-06} : $[16384, 4096] @ forward
output %y)"},
    ConformanceCase{"rms_norm_dx", 1, R"(
input %dy $[16384, 4096]
input %x $[16384, 4096]
input %w $[4096]
%dx = rms_norm_dx(%dy, %x, %w) {eps=1e-06} : $[16384, 4096] @ backward
output %dx)"},
    ConformanceCase{"rms_norm_dw", 1, R"(
input %dy $[16384, 4096]
input %x $[16384, 4096]
%dw = rms_norm_dw(%dy, %x) {eps=1e-06, dtype="$", seed=1, stream=2} : $[4096] @ backward
output %dw)"},
    ConformanceCase{"rope", 1, R"(
input %x $[16384, 32, 128]
input %cos f32[16384, 64]
input %sin f32[16384, 64]
input %positions i32[16384]
%y = rope(%x, %cos, %sin, %positions) : $[16384, 32, 128] @ forward
output %y)"},
    ConformanceCase{"silu_mul", 1, R"(
input %gate $[8192, 14336]
input %up $[8192, 14336]
%y = silu_mul(%gate, %up) : $[8192, 14336] @ forward
output %y)"},
    ConformanceCase{"silu_mul_grad", 1, R"(
input %gate $[8192, 14336]
input %up $[8192, 14336]
input %dy $[8192, 14336]
%dgate, %dup = silu_mul_grad(%gate, %up, %dy) : $[8192, 14336]; $[8192, 14336] @ backward
output %dgate
output %dup)"},
    ConformanceCase{"add", 1, R"(
input %a $[16384, 4096]
input %b $[16384, 4096]
%y = add(%a, %b) : $[16384, 4096] @ forward
output %y)"},
    ConformanceCase{"cast", 1, R"(
input %a $[16384, 4096]
%y = cast(%a) {dtype="f32"} : f32[16384, 4096] @ forward
output %y)"},
    ConformanceCase{"embedding", 1, R"(
input %table $[131072, 4096]
input %ids i32[16384]
%y = embedding(%table, %ids) : $[16384, 4096] @ forward
output %y)"},
    ConformanceCase{"embedding_dw", 1, R"(
input %dy $[16384, 4096]
input %ids i32[16384]
%dw = embedding_dw(%dy, %ids) {rows=131072, dtype="$", seed=1, stream=2} : $[131072, 4096] @ backward
output %dw)"},
    ConformanceCase{"dequantize_nf4", 1, R"(
input %codes u8[58720256]
input %scales f32[1835008]
%w = dequantize(%codes, %scales) {format="nf4", shape="14336,8192", dtype="$"} : $[14336, 8192] @ forward
output %w)"},
    ConformanceCase{"linear", 1, R"(
input %x $[8192, 4096]
input %w $[14336, 4096]
%y = linear(%x, %w, _) : $[8192, 14336] @ forward
output %y)"},
    ConformanceCase{"linear_dx", 1, R"(
input %dy $[8192, 14336]
input %w $[14336, 4096]
%dx = linear_dx(%dy, %w) : $[8192, 4096] @ backward
output %dx)"},
    ConformanceCase{"linear_dw", 1, R"(
input %dy $[8192, 14336]
input %x $[8192, 4096]
%dw = linear_dw(%dy, %x) {dtype="$", seed=1, stream=2} : $[14336, 4096] @ backward
output %dw)"},
    ConformanceCase{"packed_linear_nf4", 1, R"(
input %x $[8192, 4096]
input %codes u8[29360128]
input %scales f32[917504]
%y = packed_linear(%x, %codes, %scales) {format="nf4", rows=14336} : $[8192, 14336] @ forward
output %y)"},
    ConformanceCase{"attention", 1, R"(
input %q $[8192, 32, 128]
input %k $[8192, 8, 128]
input %v $[8192, 8, 128]
input %doc_start i32[8192]
%o, %lse = attention(%q, %k, %v, %doc_start) {scale=0.088, window=0} : $[8192, 32, 128]; f32[32, 8192] @ forward
output %o
output %lse)"},
    ConformanceCase{"attention_grad", 1, R"(
input %q $[8192, 32, 128]
input %k $[8192, 8, 128]
input %v $[8192, 8, 128]
input %doc_start i32[8192]
input %o $[8192, 32, 128]
input %lse f32[32, 8192]
input %do $[8192, 32, 128]
%dq, %dk, %dv = attention_grad(%q, %k, %v, %doc_start, %o, %lse, %do) {scale=0.088, window=0} : $[8192, 32, 128]; $[8192, 8, 128]; $[8192, 8, 128] @ backward
output %dq
output %dk
output %dv)"},
    ConformanceCase{"head_loss_grad", 1, R"(
input %x $[8192, 4096]
input %w $[128256, 4096]
input %labels i32[8192]
input %weight f32[] scalar
%loss, %dx, %dw = head_loss_grad(%x, %w, %labels, %weight) {chunk_columns=2048, dtype="$", seed=1, stream=2} : f32[]; $[8192, 4096]; $[128256, 4096] @ backward
output %loss
output %dx
output %dw)"},
};

}  // namespace snug::testing
