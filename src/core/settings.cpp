#include "core/settings.h"

#include <cmath>

#include "core/error.h"

namespace snug {
namespace {

constexpr std::int64_t kDefaultRows = 16;

}  // namespace

std::int64_t CountOrShare::of(std::int64_t total) const {
  if (value >= 1) return static_cast<std::int64_t>(value);
  return static_cast<std::int64_t>(std::ceil(value * static_cast<double>(total)));
}

Origin Settings::origin(std::string_view key) const {
  const auto found = origins.find(key);
  return found == origins.end() ? Origin{} : found->second;
}

BatchShape resolve_batch(const Settings& settings, std::int64_t ranks) {
  check(ranks >= 1, "{} ranks", ranks);
  const BatchSettings& set = settings.batch;
  BatchShape shape{0, set.per_device_train_batch_size, set.gradient_accumulation_steps};
  if (!set.global_batch_size && shape.micro) {
    if (!shape.accumulation) shape.accumulation = 1;
    if (__builtin_mul_overflow(*shape.micro, *shape.accumulation, &shape.rows) ||
        __builtin_mul_overflow(shape.rows, ranks, &shape.rows)) {
      user_error(
          "per_device_train_batch_size={} with gradient_accumulation_steps={}: too many rows.",
          *shape.micro, *shape.accumulation);
    }
    return shape;
  }
  shape.rows = set.global_batch_size.value_or(kDefaultRows);
  if (shape.rows % ranks != 0) {
    user_error("global_batch_size={} over {} processes: each must have as many rows.", shape.rows,
               ranks);
  }
  const std::int64_t rows = shape.rows / ranks;
  if (shape.micro && !shape.accumulation) shape.accumulation = rows / *shape.micro;
  if (!shape.micro && shape.accumulation) shape.micro = rows / *shape.accumulation;
  if (!shape.micro) return shape;
  const bool exact = *shape.micro >= 1 && *shape.accumulation >= 1 && rows % *shape.micro == 0 &&
                     rows / *shape.micro == *shape.accumulation;
  if (!exact) {
    const auto text = [](const std::optional<std::int64_t>& value) {
      return value ? fmt::format("{}", *value) : std::string("auto");
    };
    user_error(
        "global_batch_size={} is not per_device_train_batch_size={} times "
        "gradient_accumulation_steps={} over {} process{}. Leave one of the three out, or change "
        "one.",
        shape.rows, text(set.per_device_train_batch_size), text(set.gradient_accumulation_steps),
        ranks, ranks == 1 ? "" : "es");
  }
  return shape;
}

}  // namespace snug
