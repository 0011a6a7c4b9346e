#include "backend/cuda/blocks.h"

#include "plan/card.h"
#include "plan/kernel.h"

namespace snug::cuda {

BlockNeeds block_needs(const Kernel& kernel) {
  return kernel.name.starts_with("cuda_flash_") ? flash_block(kFlashWidest) : kPlainBlock;
}

const char* misses(const BlockNeeds& needs, const Card& card) {
  if (card.compute < needs.compute) return "an older compute capability";
  if (card.shared_bytes < needs.shared_bytes) return "too little shared memory a block";
  if (needs.threads * needs.registers > kRegisters) return "too few registers";
  return nullptr;
}

}  // namespace snug::cuda
