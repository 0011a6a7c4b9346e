#pragma once
// The op table: one row an op. Everything a pass, a verifier or a planner knows about an op is
// here; a rule that is missing is an InternalError that names the op.
//
// Shapes below: T tokens (rows), H hidden, V vocabulary, K/N a linear layer's in and out features,
// h heads, d head size, g key/value heads, P positions, C cache rows. `?` marks an optional operand
// or attribute. Weights are [out, in]. Sums are fp32 (f64 for f64 operands), rounded once.
//
// `acc`: the output is a version of it: acc + result, rounded once. `draw` is an i64 scalar: the
// stochastic rounding's draw number (applied step and micro-batch), present where a bf16 result is
// accumulated or stored without a master: element e of the output is then rounded with the bits
// rounding_stream(attributes, draw).bits16(e), else to nearest.
//
// An output that shares an operand's place (see Aliasing) lies exactly on it: kernels read an
// element (a row's sums included) before they write it.

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "core/philox.h"
#include "ir/graph.h"

namespace snug {

class Builder;  // ir/builder.h

enum class Op : std::uint16_t {
  // Elementary ops: definitions of the fused ones are made of these. Operands of equal shape.
  add,            ///< (a, b) -> a + b
  sub,            ///< (a, b) -> a - b
  mul,            ///< (a, b) -> a * b
  div,            ///< (a, b) -> a / b
  scale,          ///< (a) {factor} -> factor * a
  shift,          ///< (a) {offset} -> a + offset
  exp,            ///< (a)
  log,            ///< (a)
  rsqrt,          ///< (a) -> 1 / sqrt(a)
  sigmoid,        ///< (a)
  broadcast,      ///< (a) {shape} -> a repeated along missing leading and size-1 dimensions
  reduce_sum,     ///< (a) {axis} -> sum over axis, kept with size 1
  reduce_max,     ///< (a) {axis} -> maximum over axis, kept with size 1; no gradient
  reshape,        ///< (a) {shape} -> view of a; keeps its row stride
  permute,        ///< (a) {order} -> dimensions in that order, e.g. "1,0,2"
  slice,          ///< (a) {axis, begin, end}
  concat,         ///< (a, b) {axis}
  matmul,         ///< (a [.., M, K], b [.., K, N]) {transpose_a, transpose_b} -> [.., M, N]
  one_hot,        ///< (labels i32[T]) {depth, dtype} -> [T, depth]; rows of negative labels are 0
  document_mask,  ///< (doc_start i32[T]) {window, dtype} -> [T, T]: 0 where visible, else -1e30
  cast,           ///< (a) {dtype}
  copy,           ///< (a) -> a, in a place of its own
  write_rows,     ///< (whole?, part [n,..]) {begin, rows?} -> version of whole [rows,..] whose rows
                  ///<   from begin on are part; without whole a value whose other rows hold nothing
  fill,           ///< () {value, dtype, shape}
  view,           ///< (a) {offset, shape, row_stride} -> shares a's storage; nothing runs
  stop_gradient,  ///< (a) -> view of a that passes no gradient

  // Transformer ops.
  embedding,      ///< (table [V,H], ids i32[T]) -> [T,H]
  embedding_dw,   ///< (dy [T,H], ids i32[T], acc? [V,H], draw?) {rows, dtype, seed, stream}
  linear,         ///< (x [T,K], w [N,K], bias? [N], acc? [T,N]) {dtype?} -> [T,N], x's dtype
  linear_dx,      ///< (dy [T,N], w [N,K], acc? [T,K]) {dtype?} -> [T,K]
  linear_dw,      ///< (dy [T,N], x [T,K], acc? [N,K], draw?) {dtype, seed, stream} -> [N,K]
  column_sum,     ///< (dy [T,N], acc? [N], draw?) {dtype, seed, stream} -> [N]
  dequantize,     ///< (codes, scales, nested?, offset?) {format, shape, dtype} -> [N,K]; `packed`
                  ///<   below stands for these four operands (core/packed_format.h)
  packed_linear,  ///< (x [T,K], packed [N,K], bias? [N], acc? [T,N]) {format, rows, dtype?}
                  ///<   -> [T,N]: linear with w = dequantize(packed) in x's dtype
  packed_linear_dx,  ///< (dy [T,N], packed [N,K], acc? [T,K]) {format, columns, dtype?} -> [T,K]
  rms_norm,          ///< (x [.., D], w [D]) {eps} -> x / sqrt(mean(x^2) + eps) * w
  rms_norm_dx,       ///< (dy, x, w) {eps} -> like x
  rms_norm_dw,       ///< (dy, x, acc? [D], draw?) {eps, dtype, seed, stream} -> [D]
  rope_table,        ///< () {positions, half, theta, kind?...} -> cos, sin f32[P, d/2] (rope.h)
  rope,              ///< (x [T,h,d], cos [P,d/2], sin, positions i32[T]) {inverse} rotate-half
  attention,       ///< (q [T,h,d], k [T,g,d], v [T,g,d], doc_start i32[T]) {scale, window, length?}
                   ///<   -> o [T,h,d], lse f32[h,T]; token t sees max(doc_start[t], t-window+1)..t
                   ///<   (window 0: no limit); no document is longer than length (0: unknown);
                   ///<   query head i reads key/value head i / (h/g)
  attention_grad,  ///< (q, k, v, doc_start, o, lse, do) {scale, window, length?} -> dq, dk, dv
  attention_cached,   ///< (q [T,h,d], k [C,g,d], v [C,g,d], position i32[]) {scale, window} -> o;
                      ///<   query i sees cache rows max(0, position+i-window+1)..position+i
  cache_write,        ///< (cache [C,g,d], x [T,g,d], position i32[]) -> version of cache
  silu_mul,           ///< (gate, up) -> silu(gate) * up
  silu_mul_grad,      ///< (gate, up, dy) -> dgate, dup
  scale_columns,      ///< (x [T,N], m [N], n [N], bias? [N]) -> x * m / n + bias, x's dtype; n, of
                      ///<   the type of sums, gets no gradient
  scale_columns_dw,   ///< (dy [T,N], x [T,N], n [N], acc? [N], draw?) {dtype, seed, stream} -> [N]:
                      ///<   the sum over rows of dy * x, divided by n
  dora_norm,          ///< (w [N,K], a [R,K], b [N,R]) {scale} -> [N], in the type of sums: norms of
                      ///<   the rows of w + scale b a; no gradient
  dropout,            ///< (x [T,D], draw, rows i32[T], positions i32[T]) {rate, seed, stream}
                      ///<   -> x / (1 - q) or 0, q = rate in units of 2^-16: element (t, f) is 0
                      ///<   when its 16 random bits are below q 2^16. They are element
                      ///<   positions[t] * D + f of the stream whose step is the low word of draw
                      ///<   and whose part is rows[t]
  head_loss,          ///< (x [T,H], w [V,H], labels i32[T]) {chunk_rows?, chunk_columns?} -> f32[]:
                      ///<   sum of the cross-entropies of rows whose label is >= 0; logits of
                      ///<   chunk_rows rows by chunk_columns classes at a time (0: all)
  head_loss_grad,     ///< (x, w, labels, weight f32[], acc? [V,H], draw?)
                      ///<   {chunk_rows?, chunk_columns?, dtype, seed, stream} -> loss f32[], dx,
                      ///<   dw?; gradients are of weight * loss; dw (absent when w is frozen) in
                      ///<   `dtype`
  adapted_head_loss,  ///< (x, w, labels, low [T,R], up [V,R]) {chunk_rows?, chunk_columns?}
                      ///<   -> f32[]: head_loss of logits x wt + low upt
  adapted_head_loss_grad,  ///< (x, w, labels, low, up, weight f32[], acc? [V,R], draw?)
                           ///<   {chunk_rows?, chunk_columns?, dtype, seed, stream} -> loss f32[],
                           ///<   dx, dlow, dup in `dtype`; w is frozen

  // Whole-step ops.
  global_norm,   ///< (gradients...) {max_norm} -> norm f32[], clip f32[], finite i32[]; clip =
                 ///<   min(1, max_norm / (norm + 1e-6)), 1 when max_norm is 0; finite: norm is
  unscale_norm,  ///< (norm f32[], inverse f32[]) {max_norm} -> norm * inverse, the clip that scales
                 ///<   gradients of that norm back: inverse * min(1, max_norm / (result + 1e-6))
  apply_gate,    ///< (finite i32[], wanted i32[]) -> i32[]: 1 when both are non-zero

  // Updates: (weight, gradient, master?, lr, clip?, apply?, draw?, states..., scalars...)
  //   {weight_decay, seed, stream, ...} -> versions of weight, states..., master?
  // The gradient is multiplied by `clip`; nothing changes when `apply` is 0. With a master the
  // weight is the master rounded to nearest; `draw` rounds a bf16 weight without master. All
  // arithmetic is fp32. 8-bit states are codes u8 of the weight's shape and f32 absmax of each 256
  // elements (core/dynamic_map.h). See UpdateOperand.
  adamw,       ///< m, v; correction1, correction2 (1 - beta^t) {beta1, beta2, eps}; m and v are
               ///<   f32, or bf16 rounded as the weight with part + 1, part + 2 of the stream
  adamw_8bit,  ///< codes of m, absmax, codes of v, absmax; correction1, correction2
               ///<   {beta1, beta2, eps, root}; root 1: the codes are sqrt(v)'s
  adafactor,   ///< row means f32[R], column means f32[C] of a matrix; rate, rest (the weight of
               ///<   the newest square) {form, eps1, eps2, clip_threshold, scale_parameter}
  adafactor_vector,  ///< the same with the squares themselves, f32
  lion,              ///< m {beta1, beta2}
  lion_8bit,         ///< codes of m, absmax {beta1, beta2}
  sgd,               ///< no state
  sgd_momentum,      ///< sum of gradients {momentum, nesterov}

  // Asynchronous copies between spaces: start on a copy lane, wait before the first reader.
  copy_start,  ///< (a) {space} -> copy of a in space, token
  copy_wait,   ///< (copy, token) -> version of copy, readable
  count_       // number of ops
};

/// The operands that all updates list first; their states follow, then the scalars of their own.
enum UpdateOperand : std::size_t {
  kUpdateWeight,
  kUpdateGradient,
  kUpdateMaster,
  kUpdateRate,
  kUpdateClip,
  kUpdateApply,
  kUpdateDraw,
  kUpdateStates,
};
/// Elements that share an absmax in an 8-bit state.
inline constexpr std::int64_t kCodeBlock = 256;

/// Types and attributes of a node being checked or costed. Absent optional operands are nullptr.
struct OpArguments {
  Op op;
  std::span<const TensorType* const> inputs;
  const Attributes& attributes;
};

struct OpCost {
  std::int64_t flops = 0;  ///< multiply-adds count two
  std::int64_t bytes = 0;  ///< read and written once each
};

/// What a gradient rule sees. It emits nodes through `builder` and sets `input_gradients`.
struct GradientContext {
  Builder& builder;
  const Node& node;
  std::span<const ValueId> output_gradients;  ///< kNoValue where nothing flows in
  std::vector<ValueId> input_gradients;       ///< set by the rule; kNoValue = no gradient
  /// Whether operand i needs a gradient: the rule emits nothing for one that does not.
  std::function<bool(int)> needs;
  /// The gradient summed so far for operand i, when nothing else reads it, else kNoValue. A rule
  /// that accumulates into it returns the sum as input gradient and calls `took_partial(i)`.
  std::function<ValueId(int)> partial;
  std::function<void(int)> took_partial;
  /// Attributes `dtype`, `seed` and `stream` for the gradient of parameter operand i.
  std::function<Attributes(int)> gradient_attributes;
  /// The draw number for a rule that accumulates into a partial of `dtype`; kNoValue unless bf16.
  std::function<ValueId(DType)> draw;
  /// Reads of forward output i become reads of `value` (computed in the backward visit).
  std::function<void(int, ValueId)> replace_output;
};

/// Output `output` shares input `input`'s storage: always (a version) or when the input dies there.
struct Aliasing {
  int output;
  int input;
  bool must;
};

/// Whether an output's type follows the storage types chosen by the precision pass, or is fixed by
/// the op or its `dtype` attribute.
enum class Precision : std::uint8_t { follow, keep };

struct OpDef {
  Op op;
  std::string_view name;
  int min_inputs = 0;  ///< inputs listed, absent ones included
  int max_inputs = 0;  ///< -1: any number
  int min_outputs = 1;
  int max_outputs = 1;
  /// Output types, optional last outputs included; throws InternalError when the operands do not
  /// fit. Call it through infer_types().
  std::vector<TensorType> (*infer)(const OpArguments&) = nullptr;
  OpCost (*cost)(const OpArguments&, std::span<const TensorType> outputs) = nullptr;
  /// Absent: the op has no gradient; autodiff refuses to differentiate through it.
  void (*gradient)(GradientContext&) = nullptr;
  /// A fused op in elementary ops: emits them and returns the outputs.
  std::vector<ValueId> (*definition)(Builder&, const Node&) = nullptr;
  std::span<const Aliasing> aliasing = {};
  Precision precision = Precision::follow;
  int accumulator = -1;    ///< index of the `acc` operand; its version is the last output
  bool cheap = false;      ///< recomputing it costs memory traffic only (norms, activations, casts)
  int update_states = -1;  ///< states of an update, whose operands UpdateOperand names; -1: none
  bool view = false;       ///< output 0 looks into input 0's storage; nothing runs, no kernel
};

/// The row of `op`.
const OpDef& op_def(Op op);
/// The op of that name, if any.
std::optional<Op> op_from_name(std::string_view name);

/// Throws InternalError naming the op and its operands unless `holds`. For shape rules.
void check_operands(bool holds, const OpArguments& arguments);
/// The output types of a node: checks the number of operands, then the op's shape rule.
std::vector<TensorType> infer_types(const OpArguments& arguments);

/// The random bits of row `row` of `dropout`, and its rate in units of 2^-16.
RandomStream dropout_stream(const Attributes& attributes, std::int64_t draw, std::int32_t row);
std::uint32_t dropout_threshold(const Attributes& attributes);

/// The random bits of stochastic rounding: `seed` and `stream` of the attributes, low and high word
/// of the draw number as step and part.
RandomStream rounding_stream(const Attributes& attributes, std::int64_t draw);

/// The types of a node's operands, nullptr where absent.
std::vector<const TensorType*> operand_types(const Graph& graph, const Node& node);
/// The cost of a node in its graph.
OpCost cost_of(const Graph& graph, const Node& node);

}  // namespace snug
