// Updates, an element or a block of 256 elements at a time.

#include <algorithm>

#include "backend/cuda/bodies_adafactor.h"
#include "backend/cuda/cuda_kernels.h"
#include "backend/cuda/operands.h"
#include "backend/cuda/plain_bodies.h"
#include "core/dynamic_map.h"

namespace snug::cuda {
namespace {

static_assert(kUpdateBlock == kCodeBlock);

Weights weights(const KernelCall& call) {
  const bool master = in(call, kUpdateMaster).present();
  return {.weight = out(call, 0),
          .gradient = in(call, kUpdateGradient),
          .master = master ? out(call, call.outputs.size() - 1) : View{},
          .lr = pointer<const float>(call, kUpdateRate),
          .clip = pointer<const float>(call, kUpdateClip),
          .apply = pointer<const std::int32_t>(call, kUpdateApply),
          .rounding = rounding(call, kUpdateDraw),
          .weight_decay = call.attributes.real("weight_decay")};
}

const float* scalar(const KernelCall& call, std::size_t states, std::size_t i) {
  return pointer<const float>(call, kUpdateStates + states + i);
}

AdamWRule adamw_rule(const KernelCall& call, std::size_t states) {
  return {.correction1 = scalar(call, states, 0),
          .correction2 = scalar(call, states, 1),
          .beta1 = call.attributes.real("beta1"),
          .beta2 = call.attributes.real("beta2"),
          .eps = call.attributes.real("eps")};
}

LionRule lion_rule(const KernelCall& call) {
  return {.beta1 = call.attributes.real("beta1"), .beta2 = call.attributes.real("beta2")};
}

/// Codes and absmax in outputs 1 + i and 2 + i.
Coded coded(const KernelCall& call, std::size_t i, bool with_sign) {
  Coded state{.codes = call.outputs[1 + i].as<std::uint8_t>(),
              .absmax = call.outputs[2 + i].as<float>(),
              .with_sign = with_sign,
              .map = {}};
  std::ranges::copy(with_sign ? signed_dynamic_map() : unsigned_dynamic_map(), state.map.of);
  return state;
}

std::int64_t blocks(const Weights& w) { return (w.weight.size + kUpdateBlock - 1) / kUpdateBlock; }

void adamw(const KernelCall& call) {
  const AdamW body = adamw_of(call);
  each(call.queue, body.weights.weight.size, body);
}

void adamw_8bit(const KernelCall& call) {
  const Weights w = weights(call);
  teams(call.queue, blocks(w),
        AdamW8bit{w, adamw_rule(call, 4), coded(call, 0, true), coded(call, 2, false),
                  call.attributes.integer("root") != 0});
}

void lion(const KernelCall& call) {
  const Weights w = weights(call);
  each(call.queue, w.weight.size, Lion{w, lion_rule(call), out(call, 1)});
}

void lion_8bit(const KernelCall& call) {
  const Weights w = weights(call);
  teams(call.queue, blocks(w), Lion8bit{w, lion_rule(call), coded(call, 0, true)});
}

void sgd(const KernelCall& call) {
  const Weights w = weights(call);
  each(call.queue, w.weight.size, Sgd{w, {}, 0.0, false});
}

void sgd_momentum(const KernelCall& call) {
  const Weights w = weights(call);
  each(call.queue, w.weight.size,
       Sgd{w, out(call, 1), call.attributes.real("momentum"),
           call.attributes.integer("nesterov") != 0});
}

constexpr std::int64_t kTotals = 3;

std::int64_t adafactor_grant(const KernelQuery& query) {
  const Shape& shape = query.outputs[0].type.shape;
  const std::int64_t rows = query.op == Op::adafactor ? shape[0] : 1;
  return 2 * Pieces::bytes(rows, sizeof(double)) + Pieces::bytes(kTotals, sizeof(double));
}

AdafactorRule adafactor_rule(const KernelCall& call, std::size_t states, std::int64_t rows,
                             std::int64_t columns) {
  Pieces pieces(call.scratch);
  return {.weights = weights(call),
          .rate = scalar(call, states, 0),
          .rest = scalar(call, states, 1),
          .eps1 = call.attributes.real("eps1"),
          .eps2 = call.attributes.real("eps2"),
          .clip_threshold = call.attributes.real("clip_threshold"),
          .torch = call.attributes.text("form") == "torch",
          .scale_parameter = call.attributes.integer("scale_parameter") != 0,
          .rows = rows,
          .columns = columns,
          .row_means = nullptr,
          .column_means = nullptr,
          .update_sums = pieces.take<double>(rows),
          .weight_sums = pieces.take<double>(rows),
          .totals = pieces.take<double>(kTotals)};
}

/// From the means on.
void update_by(const KernelCall& call, const AdafactorRule& a) {
  teams(call.queue, a.rows, AdafactorSquares{a});
  teams(call.queue, 1, AdafactorFactors{a});
  each(call.queue, a.rows * a.columns, AdafactorUpdate{a});
}

void adafactor(const KernelCall& call) {
  const Shape& shape = shape_out(call, 0);
  AdafactorRule a = adafactor_rule(call, 2, shape[0], shape[1]);
  a.row_means = call.outputs[1].as<float>();
  a.column_means = call.outputs[2].as<float>();
  teams(call.queue, a.rows, AdafactorRows{a});
  each(call.queue, a.columns, AdafactorColumns{a});
  teams(call.queue, 1, AdafactorMean{a});
  update_by(call, a);
}

void adafactor_vector(const KernelCall& call) {
  AdafactorRule a = adafactor_rule(call, 1, 1, shape_out(call, 0).elements());
  a.column_means = call.outputs[1].as<float>();
  each(call.queue, a.columns, AdafactorColumns{a});
  update_by(call, a);
}

constexpr Kernel kKernels[] = {
    {.name = "cuda_plain_adamw", .op = Op::adamw, .refuses = refuses_gaps, .run = adamw},
    {.name = "cuda_plain_adamw_8bit",
     .op = Op::adamw_8bit,
     .refuses = refuses_gaps,
     .run = adamw_8bit},
    {.name = "cuda_plain_lion", .op = Op::lion, .refuses = refuses_gaps, .run = lion},
    {.name = "cuda_plain_lion_8bit",
     .op = Op::lion_8bit,
     .refuses = refuses_gaps,
     .run = lion_8bit},
    {.name = "cuda_plain_sgd", .op = Op::sgd, .refuses = refuses_gaps, .run = sgd},
    {.name = "cuda_plain_sgd_momentum",
     .op = Op::sgd_momentum,
     .refuses = refuses_gaps,
     .run = sgd_momentum},
    {.name = "cuda_plain_adafactor",
     .op = Op::adafactor,
     .refuses = refuses_gaps,
     .grant = adafactor_grant,
     .run = adafactor},
    {.name = "cuda_plain_adafactor_vector",
     .op = Op::adafactor_vector,
     .refuses = refuses_gaps,
     .grant = adafactor_grant,
     .run = adafactor_vector},
};

}  // namespace

std::span<const Kernel> plain_updates() { return kKernels; }

AdamW adamw_of(const KernelCall& call) {
  return {weights(call), adamw_rule(call, 2), out(call, 1), out(call, 2)};
}

}  // namespace snug::cuda
