#pragma once
// What lets one body of a kernel run on a card and, for tests, on the host.
//
// A body is a struct of numbers and pointers with a const call operator. Where CUDA is built, the
// .cu files instantiate each() and teams() as launches; elsewhere launch_host.cpp instantiates them
// as loops. Everything that a body calls is constexpr or SNUG_HD.

#include <cmath>
#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__
#define SNUG_HD __host__ __device__
#else
#define SNUG_HD
#endif

namespace snug::cuda {

template <class Body>
concept HasTables = requires { typename Body::Tables; };

/// body(i) for every i in [0, count), in no order. A body with start() gets its result first:
/// body(start, i); start() is called once a thread. A body with a type Tables gets one that a block
/// shares: body(tables, i); member `rank` of `size` fills its part by fill(tables, rank, size).
template <class Body>
void each(void* queue, std::int64_t count, const Body& body);

/// body(team, i) for every i in [0, count). A team's threads share the work on one i: member rank()
/// of size() takes what is congruent to its rank; sum() and max() are over all members and must be
/// called by all. Sums have one order. With Tables: body(team, tables, i).
template <class Body>
void teams(void* queue, std::int64_t count, const Body& body);

/// Bytes from one place to another of the same or another memory, behind what the queue holds.
void copy_bytes(void* queue, void* to, const void* from, std::int64_t bytes);
/// `rows` rows of `bytes` bytes that begin `to_stride` and `from_stride` bytes apart.
void copy_rows(void* queue, void* to, std::int64_t to_stride, const void* from,
               std::int64_t from_stride, std::int64_t bytes, std::int64_t rows);

}  // namespace snug::cuda
