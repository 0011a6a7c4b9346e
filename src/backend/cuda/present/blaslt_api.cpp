#include "backend/cuda/present/blaslt_api.h"

#include <dlfcn.h>

#include <array>

#include "core/error.h"

namespace snug::cuda::lt {
namespace {

struct Close {
  void operator()(void* library) const noexcept { dlclose(library); }
};
using Library = std::unique_ptr<void, Close>;

Library open_library() {
  constexpr std::array kNames = {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"};
  for (const char* name : kNames) {
    if (Library library{dlopen(name, RTLD_NOW | RTLD_LOCAL)}) return library;
  }
  const char* const reason = dlerror();
  user_error(
      "device=cuda needs cuBLASLt, and libcublasLt.so.13 or .12 is not found ({}). Install cuBLAS, "
      "or `pip install nvidia-cublas` and put its lib folder into LD_LIBRARY_PATH.",
      reason == nullptr ? "no reason given" : reason);
}

/// The functions and the library that they lie in.
struct Opened {
  Library library;
  Api api{};
};

template <class Function>
void find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr) {
    user_error("libcublasLt has no {}: it is older than CUDA 11. Update cuBLAS.", name);
  }
}

}  // namespace

std::shared_ptr<const Api> open_api() {
  auto opened = std::make_shared<Opened>();
  opened->library = open_library();
  void* const library = opened->library.get();
  Api& api = opened->api;
  find(library, "cublasLtCreate", api.create);
  find(library, "cublasLtDestroy", api.destroy);
  find(library, "cublasLtGetVersion", api.version);
  find(library, "cublasLtMatmulDescCreate", api.desc_create);
  find(library, "cublasLtMatmulDescSetAttribute", api.desc_set);
  find(library, "cublasLtMatmulDescDestroy", api.desc_destroy);
  find(library, "cublasLtMatrixLayoutCreate", api.layout_create);
  find(library, "cublasLtMatrixLayoutDestroy", api.layout_destroy);
  find(library, "cublasLtMatmulPreferenceCreate", api.preference_create);
  find(library, "cublasLtMatmulPreferenceSetAttribute", api.preference_set);
  find(library, "cublasLtMatmulPreferenceDestroy", api.preference_destroy);
  find(library, "cublasLtMatmulAlgoGetHeuristic", api.heuristic);
  find(library, "cublasLtMatmul", api.matmul);
  return {opened, &opened->api};
}

}  // namespace snug::cuda::lt
