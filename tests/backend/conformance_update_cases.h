#pragma once
// The conformance cases of optimizers' updates; see conformance_cases.h.

#include <array>

#include "backend/conformance_case.h"

namespace snug::testing {

inline constexpr std::array kUpdateCases = {
    ConformanceCase{"adamw_master", 1, R"(
input %w $[37, 77] weight run
input %g $[37, 77]
input %master f32[37, 77] master run
input %lr f32[] scalar
input %clip f32[] scalar
input %apply i32[] scalar
input %m f32[37, 77] optimizer_state run
input %v f32[37, 77] optimizer_state run
input %c1 f32[] scalar
input %c2 f32[] scalar
%w2, %m2, %v2, %p2 = adamw(%w, %g, %master, %lr, %clip, %apply, _, %m, %v, %c1, %c2) {beta1=0.9, beta2=0.999, eps=1e-08, weight_decay=0.1} : $[37, 77] weight run base=%w; f32[37, 77] optimizer_state run base=%m; f32[37, 77] optimizer_state run base=%v; f32[37, 77] master run base=%master @ update
output %w2
output %m2
output %v2
output %p2)"},
    ConformanceCase{"adamw_stochastic", 1, R"(
input %w $[37, 77] weight run
input %g $[37, 77]
input %lr f32[] scalar
input %draw i64[] scalar
input %m $[37, 77] optimizer_state run
input %v $[37, 77] optimizer_state run
input %c1 f32[] scalar
input %c2 f32[] scalar
%w2, %m2, %v2 = adamw(%w, %g, _, %lr, _, _, %draw, %m, %v, %c1, %c2) {beta1=0.9, beta2=0.999, eps=1e-08, weight_decay=0.1, seed=7, stream=9} : $[37, 77] weight run base=%w; $[37, 77] optimizer_state run base=%m; $[37, 77] optimizer_state run base=%v @ update
output %w2
output %m2
output %v2)"},
    ConformanceCase{"adamw_8bit_plain", 1, R"(
input %w $[37, 77] weight run
input %g $[37, 77]
input %lr f32[] scalar
input %draw i64[] scalar
input %codes1 u8[37, 77] optimizer_state run
input %absmax1 f32[12] optimizer_state run
input %codes2 u8[37, 77] optimizer_state run
input %absmax2 f32[12] optimizer_state run
input %c1 f32[] scalar
input %c2 f32[] scalar
%w2, %codes12, %absmax12, %codes22, %absmax22 = adamw_8bit(%w, %g, _, %lr, _, _, %draw, %codes1, %absmax1, %codes2, %absmax2, %c1, %c2) {beta1=0.9, beta2=0.999, eps=1e-08, weight_decay=0.1, root=0, seed=7, stream=9} : $[37, 77] weight run base=%w; u8[37, 77] optimizer_state run base=%codes1; f32[12] optimizer_state run base=%absmax1; u8[37, 77] optimizer_state run base=%codes2; f32[12] optimizer_state run base=%absmax2 @ update
output %w2
output %codes12
output %absmax12
output %codes22
output %absmax22)"},
    ConformanceCase{"adamw_8bit_root", 1, R"(
input %w $[37, 77] weight run
input %g $[37, 77]
input %master f32[37, 77] master run
input %lr f32[] scalar
input %clip f32[] scalar
input %apply i32[] scalar
input %codes1 u8[37, 77] optimizer_state run
input %absmax1 f32[12] optimizer_state run
input %codes2 u8[37, 77] optimizer_state run
input %absmax2 f32[12] optimizer_state run
input %c1 f32[] scalar
input %c2 f32[] scalar
%w2, %codes12, %absmax12, %codes22, %absmax22, %p2 = adamw_8bit(%w, %g, %master, %lr, %clip, %apply, _, %codes1, %absmax1, %codes2, %absmax2, %c1, %c2) {beta1=0.9, beta2=0.999, eps=1e-08, weight_decay=0.1, root=1} : $[37, 77] weight run base=%w; u8[37, 77] optimizer_state run base=%codes1; f32[12] optimizer_state run base=%absmax1; u8[37, 77] optimizer_state run base=%codes2; f32[12] optimizer_state run base=%absmax2; f32[37, 77] master run base=%master @ update
output %w2
output %codes12
output %absmax12
output %codes22
output %absmax22
output %p2)"},
    ConformanceCase{"lion", 1, R"(
input %w $[37, 77] weight run
input %g $[37, 77]
input %master f32[37, 77] master run
input %lr f32[] scalar
input %clip f32[] scalar
input %apply i32[] scalar
input %m f32[37, 77] optimizer_state run
%w2, %m2, %p2 = lion(%w, %g, %master, %lr, %clip, %apply, _, %m) {beta1=0.9, beta2=0.99, weight_decay=0.1} : $[37, 77] weight run base=%w; f32[37, 77] optimizer_state run base=%m; f32[37, 77] master run base=%master @ update
output %w2
output %m2
output %p2)"},
    ConformanceCase{"lion_8bit", 1, R"(
input %w $[37, 77] weight run
input %g $[37, 77]
input %lr f32[] scalar
input %draw i64[] scalar
input %codes1 u8[37, 77] optimizer_state run
input %absmax1 f32[12] optimizer_state run
%w2, %codes12, %absmax12 = lion_8bit(%w, %g, _, %lr, _, _, %draw, %codes1, %absmax1) {beta1=0.9, beta2=0.99, weight_decay=0.1, seed=7, stream=9} : $[37, 77] weight run base=%w; u8[37, 77] optimizer_state run base=%codes1; f32[12] optimizer_state run base=%absmax1 @ update
output %w2
output %codes12
output %absmax12)"},
    ConformanceCase{"sgd", 1, R"(
input %w $[37, 77] weight run
input %g $[37, 77]
input %lr f32[] scalar
input %draw i64[] scalar
%w2 = sgd(%w, %g, _, %lr, _, _, %draw) {weight_decay=0.1, seed=7, stream=9} : $[37, 77] weight run base=%w @ update
output %w2)"},
    ConformanceCase{"sgd_momentum", 1, R"(
input %w $[37, 77] weight run
input %g $[37, 77]
input %master f32[37, 77] master run
input %lr f32[] scalar
input %clip f32[] scalar
input %apply i32[] scalar
input %m f32[37, 77] optimizer_state run
%w2, %m2, %p2 = sgd_momentum(%w, %g, %master, %lr, %clip, %apply, _, %m) {momentum=0.9, nesterov=1, weight_decay=0.1} : $[37, 77] weight run base=%w; f32[37, 77] optimizer_state run base=%m; f32[37, 77] master run base=%master @ update
output %w2
output %m2
output %p2)"},
    ConformanceCase{"adafactor_transformers", 2849, R"(
input %w $[37, 77] weight run
input %g $[37, 77]
input %master f32[37, 77] master run
input %lr f32[] scalar
input %clip f32[] scalar
input %apply i32[] scalar
input %absmax1 f32[37] optimizer_state run
input %absmax2 f32[77] optimizer_state run
input %rate f32[] scalar
input %rest f32[] scalar
%w2, %absmax12, %absmax22, %p2 = adafactor(%w, %g, %master, %lr, %clip, %apply, _, %absmax1, %absmax2, %rate, %rest) {form="transformers", eps1=1e-30, eps2=0.001, clip_threshold=1.0, scale_parameter=0, weight_decay=0.1} : $[37, 77] weight run base=%w; f32[37] optimizer_state run base=%absmax1; f32[77] optimizer_state run base=%absmax2; f32[37, 77] master run base=%master @ update
output %w2
output %absmax12
output %absmax22
output %p2)"},
    ConformanceCase{"adafactor_vector_transformers", 777, R"(
input %w $[777] weight run
input %g $[777]
input %lr f32[] scalar
input %draw i64[] scalar
input %v f32[777] optimizer_state run
input %rate f32[] scalar
input %rest f32[] scalar
%w2, %v2 = adafactor_vector(%w, %g, _, %lr, _, _, %draw, %v, %rate, %rest) {form="transformers", eps1=1e-30, eps2=0.001, clip_threshold=1.0, scale_parameter=0, weight_decay=0.1, seed=7, stream=9} : $[777] weight run base=%w; f32[777] optimizer_state run base=%v @ update
output %w2
output %v2)"},
    ConformanceCase{"adafactor_torch", 2849, R"(
input %w $[37, 77] weight run
input %g $[37, 77]
input %lr f32[] scalar
input %draw i64[] scalar
input %absmax1 f32[37] optimizer_state run
input %absmax2 f32[77] optimizer_state run
input %rate f32[] scalar
input %rest f32[] scalar
%w2, %absmax12, %absmax22 = adafactor(%w, %g, _, %lr, _, _, %draw, %absmax1, %absmax2, %rate, %rest) {form="torch", eps1=1.1920929e-07, eps2=0.001, clip_threshold=1.0, scale_parameter=1, weight_decay=0.1, seed=7, stream=9} : $[37, 77] weight run base=%w; f32[37] optimizer_state run base=%absmax1; f32[77] optimizer_state run base=%absmax2 @ update
output %w2
output %absmax12
output %absmax22)"},
    ConformanceCase{"adafactor_vector_torch", 777, R"(
input %w $[777] weight run
input %g $[777]
input %master f32[777] master run
input %lr f32[] scalar
input %clip f32[] scalar
input %apply i32[] scalar
input %v f32[777] optimizer_state run
input %rate f32[] scalar
input %rest f32[] scalar
%w2, %v2, %p2 = adafactor_vector(%w, %g, %master, %lr, %clip, %apply, _, %v, %rate, %rest) {form="torch", eps1=1.1920929e-07, eps2=0.001, clip_threshold=1.0, scale_parameter=1, weight_decay=0.1} : $[777] weight run base=%w; f32[777] optimizer_state run base=%v; f32[777] master run base=%master @ update
output %w2
output %v2
output %p2)"},
};

}  // namespace snug::testing
