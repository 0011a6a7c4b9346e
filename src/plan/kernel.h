#pragma once
// The kernel interface: what a back end offers for an op. Implemented by backend/, chosen by plan/,
// run by exec/.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/thread_pool.h"
#include "ir/op.h"
#include "plan/target.h"

namespace snug {

/// One operand's layout as planned: dense but for the distance of its outermost rows.
struct OperandLayout {
  TensorType type;
  std::int64_t row_stride = 0;  ///< elements between rows (outermost dimension)
  bool present = true;          ///< false: an optional operand that is absent, or a token
  friend bool operator==(const OperandLayout&, const OperandLayout&) = default;
};

/// Attributes that only run() may read: nodes that differ in nothing else share a choice, a grant
/// and what the kernel prepares.
inline constexpr std::array<std::string_view, 2> kRunOnlyAttributes = {"seed", "stream"};

/// A node as a kernel sees it at plan time: no addresses.
struct KernelQuery {
  Op op;
  const Attributes& attributes;
  std::span<const OperandLayout> inputs;
  std::span<const OperandLayout> outputs;
  const Target& target;
};

/// An operand at run time. `data` is nullptr where an optional operand is absent.
struct Operand {
  std::byte* data = nullptr;
  OperandLayout layout;
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data);
  }
};

/// What a kernel prepares once, before step 1 (a library's primitives); shared by equal nodes.
class Prepared {
 public:
  virtual ~Prepared() = default;
};

/// One execution. Nothing here may be allocated during run().
struct KernelCall {
  const Attributes& attributes;
  std::span<const Operand> inputs;
  std::span<const Operand> outputs;
  std::span<std::byte> scratch;  ///< as many bytes as granted, aligned to 64
  const Prepared* prepared;      ///< nullptr when the kernel has no prepare
  ThreadPool& pool;       ///< of the instruction's lane: other lanes than compute have one thread
  void* queue = nullptr;  ///< of the lane, where the back end has a Device (backend/device.h)
};

/// What refuses, grant and prepare say may depend on nothing but the query.
struct Kernel {
  std::string_view name;  ///< e.g. `gemm_linear`; unique in its back end
  Op op;
  /// Why this kernel cannot run the node, or nothing when it can. Absent: it always can.
  std::optional<std::string> (*refuses)(const KernelQuery&) = nullptr;
  /// Upper bound of the scratch bytes, from shapes and target alone; absent: none.
  std::int64_t (*grant)(const KernelQuery&) = nullptr;
  /// Absent: nothing to prepare.
  std::unique_ptr<Prepared> (*prepare)(const KernelQuery&) = nullptr;
  void (*run)(const KernelCall&) = nullptr;
  bool row_invariant = true;     ///< a row's bits do not depend on how many rows there are
  bool thread_invariant = true;  ///< nor on the number of threads
};

/// A back end at plan time: kernels for an op, best first, the reference last.
class KernelSource {
 public:
  virtual ~KernelSource() = default;
  virtual std::span<const Kernel* const> kernels(Op op) const = 0;
};

}  // namespace snug
