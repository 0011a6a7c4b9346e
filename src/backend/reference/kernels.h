#pragma once
// Private to the reference back end: its kernels by family.

#include <span>

#include "plan/kernel.h"

namespace snug::reference {

std::span<const Kernel> arithmetic();
std::span<const Kernel> movement();
std::span<const Kernel> products();
std::span<const Kernel> packed_products();
std::span<const Kernel> norms();
std::span<const Kernel> attentions();
std::span<const Kernel> adapters();
std::span<const Kernel> losses();
std::span<const Kernel> steps();
std::span<const Kernel> updates();
std::span<const Kernel> adafactors();

}  // namespace snug::reference
