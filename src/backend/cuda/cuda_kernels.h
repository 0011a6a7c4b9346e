#pragma once
// Private to the CUDA back end: its kernels by family. The plain ones take any shape and run
// everywhere; the others stand before them in an op's list.

#include <span>

#include "plan/kernel.h"

namespace snug::cuda {

std::span<const Kernel> blas_products();
std::span<const Kernel> blas_packed();
std::span<const Kernel> blas_losses();
std::span<const Kernel> flash_attention();
std::span<const Kernel> eights();

std::span<const Kernel> plain_elements();
std::span<const Kernel> plain_products();
std::span<const Kernel> plain_rows();
std::span<const Kernel> plain_attention();
std::span<const Kernel> plain_losses();
std::span<const Kernel> plain_updates();

}  // namespace snug::cuda
