// What only moves memory, eight elements a thread. Where an operand lies at an odd address, which a
// plan does not know of, or a norm's rows are narrow, the plain body runs: the results are the same
// but for the order of a row's sum.

#include <algorithm>

#include "backend/cuda/bodies_rows.h"
#include "backend/cuda/cuda_kernels.h"
#include "backend/cuda/eights.h"
#include "backend/cuda/operands.h"
#include "backend/cuda/plain_bodies.h"

namespace snug::cuda {

bool aligned(std::initializer_list<View> views) {
  return std::all_of(views.begin(), views.end(), [](const View& view) {
    return reinterpret_cast<std::uintptr_t>(view.data) % 16 == 0;
  });
}

void dequantize_tile(void* queue, const DequantizeTile& tile) {
  const Packed& w = tile.w;
  const bool in_eights = tile.columns % kEight == 0 && tile.first_column % kEight == 0 &&
                         w.columns % kEight == 0 && w.block % kEight == 0 &&
                         reinterpret_cast<std::uintptr_t>(w.codes) % kEight == 0;
  if (!in_eights || !aligned({tile.y})) {
    each(queue, tile.y.size, tile);
    return;
  }
  by_type(tile.y.type, [&](auto type) {
    each(queue, tile.y.size / kEight, DequantizeEights<decltype(type)>{tile});
  });
}

void store_sums(void* queue, std::int64_t size, const StoreSums& store) {
  const Sum& to = store.to;
  const bool bf16 = to.out.type == DType::bf16 && (!to.acc.present() || to.acc.type == DType::bf16);
  const bool dense = to.out.gap == 0 && to.acc.gap == 0;
  if (bf16 && dense && size % kEight == 0 && to.first % kEight == 0 && aligned({to.out, to.acc})) {
    each(queue, size / kEight, StoreSumsEights<BFloat16>{store.sums, to});
  } else {
    each(queue, size, store);
  }
}

namespace {

/// Rows of a norm that keep more of a team's threads busy an element a thread.
constexpr std::int64_t kNarrow = 1024;

/// Refuses what is not dense, of one floating type and in eights along the last dimension.
std::optional<std::string> refuses_elements(const KernelQuery& query) {
  if (auto reason = refuses_gaps(query)) return reason;
  const DType type = query.outputs[0].type.dtype;
  const auto differs = [&](const OperandLayout& layout) { return layout.type.dtype != type; };
  if (!is_float(type) || std::any_of(query.inputs.begin(), query.inputs.end(), differs)) {
    return "operands of several types";
  }
  if (query.outputs[0].type.shape[-1] % kEight != 0) return "rows that are not in eights";
  return std::nullopt;
}

std::optional<std::string> rope_refuses(const KernelQuery& query) {
  if (auto reason = refuses_gaps(query)) return reason;
  const TensorType& y = query.outputs[0].type;
  if (!is_float(y.dtype) || query.inputs[0].type.dtype != y.dtype) {
    return "operands of several types";
  }
  if (query.inputs[1].type.dtype != DType::f32 || query.inputs[2].type.dtype != DType::f32) {
    return "tables that are not in f32";
  }
  if (y.shape[-1] % (2 * kEight) != 0) return "halves of heads that are not in eights";
  return std::nullopt;
}

std::optional<std::string> adamw_refuses(const KernelQuery& query) {
  if (auto reason = refuses_gaps(query)) return reason;
  const TensorType& w = query.outputs[0].type;
  const DType gradient = query.inputs[kUpdateGradient].type.dtype;
  const DType state = query.inputs[kUpdateStates].type.dtype;
  const DType f32 = DType::f32;
  bool known = query.inputs[kUpdateStates + 1].type.dtype == state;
  if (query.inputs[kUpdateMaster].present) {
    known = known && state == f32 && w.dtype != f32 &&
            (gradient == f32 || (gradient == w.dtype && w.dtype == DType::bf16));
  } else {
    known = known && gradient == w.dtype &&
            (w.dtype == f32 ? state == f32
                            : w.dtype == DType::bf16 && (state == f32 || state == w.dtype));
  }
  if (!known) return "types that are rare together";
  if (w.shape.elements() % kEight != 0) return "elements that are not in eights";
  return std::nullopt;
}

void dequantize(const KernelCall& call) {
  const std::int64_t columns = shape_out(call, 0)[1];
  dequantize_tile(call.queue, {packed(call, 0, columns), out(call, 0), columns, 0, 0});
}

void add(const KernelCall& call) {
  const View a = in(call, 0);
  const View b = in(call, 1);
  const View y = out(call, 0);
  if (!aligned({a, b, y})) {
    each(call.queue, y.size, Binary{Binary::Kind::add, a, b, y});
    return;
  }
  by_type(y.type, [&](auto type) {
    each(call.queue, y.size / kEight, AddEights<decltype(type)>{a, b, y});
  });
}

void silu_mul(const KernelCall& call) {
  const View gate = in(call, 0);
  const View up = in(call, 1);
  const View y = out(call, 0);
  if (!aligned({gate, up, y})) {
    each(call.queue, y.size, SiluMul{gate, up, y});
    return;
  }
  by_type(y.type, [&](auto type) {
    each(call.queue, y.size / kEight, SiluMulEights<decltype(type)>{gate, up, y});
  });
}

void silu_mul_grad(const KernelCall& call) {
  const SiluMulGrad plain{in(call, 0), in(call, 1), in(call, 2), out(call, 0), out(call, 1)};
  const std::int64_t size = plain.dgate.size;
  if (!aligned({plain.gate, plain.up, plain.dy, plain.dgate, plain.dup})) {
    each(call.queue, size, plain);
    return;
  }
  by_type(plain.dgate.type, [&](auto type) {
    each(call.queue, size / kEight,
         SiluMulGradEights<decltype(type)>{plain.gate, plain.up, plain.dy, plain.dgate, plain.dup});
  });
}

void rms_norm(const KernelCall& call) {
  const Shape& x = shape_in(call, 0);
  const RmsNorm plain{in(call, 0), in(call, 1), out(call, 0), x[-1], eps_of(call)};
  if (plain.width < kNarrow || !aligned({plain.x, plain.w, plain.y})) {
    teams(call.queue, x.rows(), plain);
    return;
  }
  by_type(plain.y.type, [&](auto type) {
    teams(call.queue, x.rows(),
          RmsNormEights<decltype(type)>{plain.x, plain.w, plain.y, plain.width, plain.eps});
  });
}

void rms_norm_dx(const KernelCall& call) {
  const Shape& x = shape_in(call, 1);
  const RmsNormDx plain{in(call, 0), in(call, 1), in(call, 2), out(call, 0), x[-1], eps_of(call)};
  if (plain.width < kNarrow || !aligned({plain.dy, plain.x, plain.w, plain.dx})) {
    teams(call.queue, x.rows(), plain);
    return;
  }
  by_type(plain.dx.type, [&](auto type) {
    teams(call.queue, x.rows(),
          RmsNormDxEights<decltype(type)>{plain.dy, plain.x, plain.w, plain.dx, plain.width,
                                          plain.eps});
  });
}

void rope(const KernelCall& call) {
  const Rope plain = rope_of(call);
  const std::int64_t pairs = plain.y.size / 2;
  if (!aligned({plain.x, plain.cos, plain.sin, plain.y})) {
    each(call.queue, pairs, plain);
    return;
  }
  by_type(plain.y.type, [&](auto type) {
    each(call.queue, pairs / kEight,
         RopeEights<decltype(type)>{plain.x, plain.cos, plain.sin, plain.y, plain.positions,
                                    plain.heads, plain.half, plain.table_rows, plain.sign});
  });
}

void adamw(const KernelCall& call) {
  const AdamW plain = adamw_of(call);
  const Weights& w = plain.weights;
  const auto run = [&](auto body) { each(call.queue, w.weight.size / kEight, body); };
  if (!aligned({w.weight, w.gradient, w.master, plain.m, plain.v})) {
    each(call.queue, w.weight.size, plain);
  } else if (w.weight.type == DType::f32) {
    run(AdamWEights<float, float, float, false>{w, plain.rule, plain.m, plain.v});
  } else if (w.weight.type == DType::f16) {
    run(AdamWEights<Float16, float, float, true>{w, plain.rule, plain.m, plain.v});
  } else if (w.gradient.type == DType::f32) {
    run(AdamWEights<BFloat16, float, float, true>{w, plain.rule, plain.m, plain.v});
  } else if (w.master.present()) {
    run(AdamWEights<BFloat16, BFloat16, float, true>{w, plain.rule, plain.m, plain.v});
  } else if (plain.m.type == DType::f32) {
    run(AdamWEights<BFloat16, BFloat16, float, false>{w, plain.rule, plain.m, plain.v});
  } else {
    run(AdamWEights<BFloat16, BFloat16, BFloat16, false>{w, plain.rule, plain.m, plain.v});
  }
}

constexpr Kernel kKernels[] = {
    {.name = "cuda_eights_add", .op = Op::add, .refuses = refuses_elements, .run = add},
    {.name = "cuda_eights_silu_mul",
     .op = Op::silu_mul,
     .refuses = refuses_elements,
     .run = silu_mul},
    {.name = "cuda_eights_silu_mul_grad",
     .op = Op::silu_mul_grad,
     .refuses = refuses_elements,
     .run = silu_mul_grad},
    {.name = "cuda_eights_rms_norm",
     .op = Op::rms_norm,
     .refuses = refuses_elements,
     .run = rms_norm},
    {.name = "cuda_eights_rms_norm_dx",
     .op = Op::rms_norm_dx,
     .refuses = refuses_elements,
     .run = rms_norm_dx},
    {.name = "cuda_eights_rope", .op = Op::rope, .refuses = rope_refuses, .run = rope},
    {.name = "cuda_eights_dequantize",
     .op = Op::dequantize,
     .refuses = refuses_gaps,
     .run = dequantize},
    {.name = "cuda_eights_adamw", .op = Op::adamw, .refuses = adamw_refuses, .run = adamw},
};

}  // namespace

std::span<const Kernel> eights() { return kKernels; }

}  // namespace snug::cuda
