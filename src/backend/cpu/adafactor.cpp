#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/adafactor.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// The target's code comes after foreach_target.h.
#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/cpu/parallel.h"
#include "backend/cpu/scratch.h"
#include "backend/cpu/update-inl.h"
#include "backend/cpu/update_blocks.h"

#ifndef SNUG_ADAFACTOR_ONCE
#define SNUG_ADAFACTOR_ONCE
namespace snug {

/// Rows whose squares are summed column by column in registers.
constexpr std::int64_t kAdafactorRows = 8;
/// Stretches of rows with column sums of their own, at most.
constexpr std::int64_t kAdafactorChunks = 64;

struct AdafactorScratch {
  float* chunk_sums;      ///< [chunks][columns]: column sums of squares
  float* row_factors;     ///< 1 / sqrt(a row's share of the expected square)
  float* column_factors;  ///< the same of a column
  double* update_sums;    ///< a row's sum of squares of its update
  double* weight_sums;    ///< of its old weights
};

/// What the passes over the elements share.
struct AdafactorPass {
  std::int64_t columns;
  float most;  ///< of 1 / sqrt(expected square)
  AdafactorScratch scratch;
};

struct AdafactorStep {
  float decay;
  float step;
};

}  // namespace snug
#endif

HWY_BEFORE_NAMESPACE();
namespace snug {
namespace HWY_NAMESPACE {
namespace {

/// Row sums of squares to update_sums and their column sums to one chunk of chunk_sums.
struct SquareSumsBody {
  const AdafactorPass& pass;
  float* column_sums;

  template <class Elements>
  HWY_INLINE void operator()(Elements& elements, int64_t begin, int64_t end) const {
    for (int64_t c = 0; c < pass.columns; ++c) column_sums[c] = 0.0F;
    for (int64_t r = begin; r < end; r += kAdafactorRows) {
      add_rows(elements, r, HWY_MIN(kAdafactorRows, end - r));
    }
  }

  template <class Elements>
  HWY_INLINE void add_rows(Elements& elements, int64_t first, int64_t rows) const {
    const F32 d;
    Vec sums[kAdafactorRows];
    for (Vec& sum : sums) sum = hn::Zero(d);
    for (int64_t c = 0; c < pass.columns; c += lanes()) {
      Vec column = load_in(column_sums, c, pass.columns);
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t row = (first + r) * pass.columns;
        const Vec g = elements.gradient(row + c, row + pass.columns);
        const Vec square = hn::Mul(g, g);
        sums[r] = hn::Add(sums[r], square);
        column = hn::Add(column, square);
      }
      store_in(column, column_sums, c, pass.columns);
    }
    for (int64_t r = 0; r < rows; ++r) {
      pass.scratch.update_sums[first + r] = static_cast<double>(sum_lanes(sums[r]));
    }
  }
};

template <class Elements>
HWY_INLINE Vec scaled_gradient(const AdafactorPass& pass, Elements& elements, int64_t row,
                               int64_t c) {
  const int64_t begin = row * pass.columns;
  const Vec factor = hn::Mul(hn::Set(F32(), pass.scratch.row_factors[row]),
                             load_in(pass.scratch.column_factors, c, pass.columns));
  return hn::Mul(elements.gradient(begin + c, begin + pass.columns),
                 hn::Min(factor, hn::Set(F32(), pass.most)));
}

/// Sums of squares of the update and of the old weights, by row.
struct UpdateSumsBody {
  const AdafactorPass& pass;
  bool weights;

  template <class Elements>
  HWY_INLINE void operator()(Elements& elements, int64_t begin, int64_t end) const {
    const F32 d;
    for (int64_t r = begin; r < end; ++r) {
      Vec sum = hn::Zero(d);
      Vec weight_sum = hn::Zero(d);
      for (int64_t c = 0; c < pass.columns; c += lanes()) {
        const Vec u = scaled_gradient(pass, elements, r, c);
        sum = hn::Add(sum, hn::Mul(u, u));
        if (!weights) continue;
        const Vec p = elements.value(r * pass.columns + c, (r + 1) * pass.columns);
        weight_sum = hn::Add(weight_sum, hn::Mul(p, p));
      }
      pass.scratch.update_sums[r] = static_cast<double>(sum_lanes(sum));
      pass.scratch.weight_sums[r] = static_cast<double>(sum_lanes(weight_sum));
    }
  }
};

struct ApplyBody {
  const AdafactorPass& pass;
  const AdafactorStep& step;

  template <class Elements>
  HWY_INLINE void operator()(Elements& elements, int64_t begin, int64_t end) const {
    const F32 d;
    const Vec decay = hn::Set(d, step.decay);
    const Vec size = hn::Set(d, step.step);
    for (int64_t r = begin; r < end; ++r) {
      const int64_t row_end = (r + 1) * pass.columns;
      for (int64_t c = 0; c < pass.columns; c += lanes()) {
        const int64_t i = r * pass.columns + c;
        const Vec u = scaled_gradient(pass, elements, r, c);
        const Vec p = hn::Mul(elements.value(i, row_end), decay);
        elements.store_value(hn::Sub(p, hn::Mul(size, u)), i, row_end);
      }
    }
  }
};

void square_sums(const Update& update, const AdafactorPass& pass, float* column_sums, int64_t begin,
                 int64_t end) {
  run_update(update, SquareSumsBody{pass, column_sums}, begin, end);
}

void update_sums(const Update& update, const AdafactorPass& pass, bool weights, int64_t begin,
                 int64_t end) {
  run_update(update, UpdateSumsBody{pass, weights}, begin, end);
}

void apply_step(const Update& update, const AdafactorPass& pass, const AdafactorStep& step,
                int64_t begin, int64_t end) {
  run_update(update, ApplyBody{pass, step}, begin, end);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace snug
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace snug {
namespace {

HWY_EXPORT(square_sums);
HWY_EXPORT(update_sums);
HWY_EXPORT(apply_step);

std::int64_t chunk_rows(std::int64_t rows) {
  const std::int64_t even = (rows + kAdafactorChunks - 1) / kAdafactorChunks;
  return (even + kAdafactorRows - 1) / kAdafactorRows * kAdafactorRows;
}
std::int64_t chunk_count(std::int64_t rows) {
  return (rows + chunk_rows(rows) - 1) / chunk_rows(rows);
}

AdafactorScratch take_scratch(const AdafactorState& state, std::span<std::byte> area) {
  Scratch scratch(area);
  return {.chunk_sums = scratch.take<float>(chunk_count(state.rows) * state.columns),
          .row_factors = scratch.take<float>(state.rows),
          .column_factors = scratch.take<float>(state.columns),
          .update_sums = scratch.take<double>(state.rows),
          .weight_sums = scratch.take<double>(state.rows)};
}

/// Weighs the newest mean of squares in.
void move_mean(float& mean, double newest, double rest) {
  mean = static_cast<float>((1.0 - rest) * static_cast<double>(mean) + rest * newest);
}

/// New row and column means, and the factors made of them.
void update_means(const AdafactorRule& rule, const AdafactorState& state,
                  const AdafactorScratch& scratch) {
  const double added = rule.torch ? 0.0 : rule.eps1;
  const auto rest = static_cast<double>(*rule.rest);
  const auto rows = static_cast<double>(state.rows);
  double mean = 0;
  for (std::int64_t r = 0; state.row_means != nullptr && r < state.rows; ++r) {
    move_mean(state.row_means[r],
              scratch.update_sums[r] / static_cast<double>(state.columns) + added, rest);
    mean += static_cast<double>(state.row_means[r]) / rows;
  }
  mean = std::max(mean, rule.torch ? rule.eps1 : 0.0);
  for (std::int64_t r = 0; r < state.rows; ++r) {
    scratch.row_factors[r] =
        state.row_means == nullptr
            ? 1.0F
            : static_cast<float>(1 / std::sqrt(static_cast<double>(state.row_means[r]) / mean));
  }
  for (std::int64_t c = 0; c < state.columns; ++c) {
    double sum = 0;
    for (std::int64_t k = 0; k < chunk_count(state.rows); ++k) {
      sum += static_cast<double>(scratch.chunk_sums[k * state.columns + c]);
    }
    move_mean(state.column_means[c], sum / rows + added, rest);
    scratch.column_factors[c] =
        static_cast<float>(1 / std::sqrt(static_cast<double>(state.column_means[c])));
  }
}

double total(const double* values, std::int64_t count) {
  double sum = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += values[i];
  return sum;
}

AdafactorStep step_of(const Update& update, const AdafactorRule& rule, std::int64_t rows,
                      const AdafactorScratch& scratch) {
  const auto count = static_cast<double>(update.count);
  auto size = static_cast<double>(*rule.rate);
  if (rule.scale_parameter) {
    size *= std::max(rule.eps2, std::sqrt(total(scratch.weight_sums, rows) / count));
  }
  const double root = std::sqrt(total(scratch.update_sums, rows) / count);
  const double decayed_by = rule.torch ? static_cast<double>(*update.lr) : size;
  return {.decay = static_cast<float>(1 - decayed_by * update.weight_decay),
          .step = static_cast<float>(size / std::max(1.0, root / rule.clip_threshold))};
}

}  // namespace

std::int64_t adafactor_scratch(std::int64_t rows, std::int64_t columns) {
  return scratch_bytes(chunk_count(rows) * columns, sizeof(float)) +
         scratch_bytes(rows, sizeof(float)) + scratch_bytes(columns, sizeof(float)) +
         2 * scratch_bytes(rows, sizeof(double));
}

void adafactor(const Update& update, const AdafactorRule& rule, const AdafactorState& state,
               std::span<std::byte> scratch, ThreadPool& pool) {
  check_update_types(update);
  if (skips(update)) return;
  const AdafactorPass pass{.columns = state.columns,
                           .most = rule.torch ? static_cast<float>(1 / rule.eps1)
                                              : std::numeric_limits<float>::infinity(),
                           .scratch = take_scratch(state, scratch)};
  choose_target();
  const auto square = HWY_DYNAMIC_DISPATCH(square_sums);
  const std::int64_t chunk = chunk_rows(state.rows);
  for_blocks(pool, state.rows, chunk, [&](std::int64_t begin, std::int64_t end, int) {
    square(update, pass, pass.scratch.chunk_sums + begin / chunk * state.columns, begin, end);
  });
  update_means(rule, state, pass.scratch);
  const std::int64_t block = rows_per_block(state.columns);
  const auto sum = HWY_DYNAMIC_DISPATCH(update_sums);
  for_blocks(pool, state.rows, block, [&](std::int64_t begin, std::int64_t end, int) {
    sum(update, pass, rule.scale_parameter, begin, end);
  });
  const AdafactorStep step = step_of(update, rule, state.rows, pass.scratch);
  const auto apply = HWY_DYNAMIC_DISPATCH(apply_step);
  for_blocks(pool, state.rows, block, [&](std::int64_t begin, std::int64_t end, int) {
    apply(update, pass, step, begin, end);
  });
}

}  // namespace snug
#endif
