// Bodies of kernels as loops: the same arithmetic without a card, for tests.

#include <algorithm>
#include <cstring>

#include "backend/cuda/bodies.h"

namespace snug::cuda {
namespace {

/// A team of one.
class HostTeam {
 public:
  std::int64_t rank() const { return 0; }
  std::int64_t size() const { return 1; }
  template <class T>
  T sum(T value) const {
    return value;
  }
  template <class T>
  T max(T value) const {
    return value;
  }
  void sync() const {}
};

}  // namespace

template <class Body>
void each(void*, std::int64_t count, const Body& body) {
  if constexpr (HasTables<Body>) {
    typename Body::Tables tables;
    body.fill(tables, 0, 1);
    for (std::int64_t i = 0; i < count; ++i) body(tables, i);
  } else if constexpr (requires { body.start(); }) {
    const auto start = body.start();
    for (std::int64_t i = 0; i < count; ++i) body(start, i);
  } else {
    for (std::int64_t i = 0; i < count; ++i) body(i);
  }
}

template <class Body>
void teams(void*, std::int64_t count, const Body& body) {
  HostTeam team;
  if constexpr (HasTables<Body>) {
    typename Body::Tables tables;
    body.fill(tables, 0, 1);
    for (std::int64_t i = 0; i < count; ++i) body(team, tables, i);
  } else {
    for (std::int64_t i = 0; i < count; ++i) body(team, i);
  }
}

void copy_bytes(void*, void* to, const void* from, std::int64_t bytes) {
  std::memmove(to, from, static_cast<std::size_t>(bytes));
}

void copy_rows(void* queue, void* to, std::int64_t to_stride, const void* from,
               std::int64_t from_stride, std::int64_t bytes, std::int64_t rows) {
  for (std::int64_t r = 0; r < rows; ++r) {
    copy_bytes(queue, static_cast<std::byte*>(to) + r * to_stride,
               static_cast<const std::byte*>(from) + r * from_stride, bytes);
  }
}

#define SNUG_EACH(Body) template void each<Body>(void*, std::int64_t, const Body&);
#define SNUG_TEAMS(Body) template void teams<Body>(void*, std::int64_t, const Body&);
#include "backend/cuda/instances_eights.inc"
#include "backend/cuda/instances_elements.inc"
#include "backend/cuda/instances_heavy.inc"
#include "backend/cuda/instances_rows.inc"
#include "backend/cuda/instances_update.inc"

}  // namespace snug::cuda
