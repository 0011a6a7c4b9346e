#pragma once
// What a block of each kernel takes of a multiprocessor: declared here, held to by launch bounds,
// and compared with what ptxas reports where CUDA is built. Light enough for .cu files.

#include <cstdint>

#include "backend/cuda/flash.h"

namespace snug {
struct Card;
struct Kernel;
}  // namespace snug

namespace snug::cuda {

struct BlockNeeds {
  int threads;
  int registers;      ///< a thread's, at most
  int spilled_bytes;  ///< of a thread, that do not fit into them
  std::int64_t shared_bytes;
  int compute;  ///< the least compute capability
};

/// Registers of a multiprocessor, of every card from 8.0 on.
inline constexpr int kRegisters = 1 << 16;

/// Bodies by each() and teams(): four blocks fit, all-fp32 AdamW spills two words for it. A team
/// has a double for each of its warps; 8-bit states have two maps of 256 numbers.
inline constexpr BlockNeeds kPlainBlock = {256, 64, 16, 64 + 2048, 80};

/// Attention's tiles; `width` is a head's. The gradients of wide heads spill a little.
constexpr BlockNeeds flash_block(int width) {
  return {kFlashThreads, 255, 512, flash_shared_bytes(width) + 16, 80};
}

/// The same of the library's products and of what follows them: the library keeps to its grant and
/// chooses blocks itself, what is declared is ours.
BlockNeeds block_needs(const Kernel& kernel);

/// Why a card cannot run blocks of these needs, or nullptr when it can.
const char* misses(const BlockNeeds& needs, const Card& card);

}  // namespace snug::cuda
