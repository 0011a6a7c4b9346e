#include "plan/target.h"

namespace snug {

std::string_view name_of(Isa isa) {
  switch (isa) {
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    case Isa::avx512_bf16:
      return "avx512_bf16";
    case Isa::amx:
      return "amx";
  }
  internal_error("instruction set {} has no name", static_cast<int>(isa));
}

}  // namespace snug
