// Products on cuBLASLt. It thinks in column-major matrices: c is [columns, rows] there, so w is its
// A and x its B.

#include "backend/cuda/present/blaslt.h"

#include <algorithm>
#include <array>
#include <vector>

#include "backend/cuda/matrix.h"
#include "backend/cuda/present/blaslt_api.h"
#include "backend/cuda/present/queue.h"
#include "backend/device.h"
#include "core/error.h"
#include "core/text.h"

namespace snug::cuda {
namespace {

void check_status(lt::Status status, const char* call) {
  if (status != 0) throw DeviceError(fmt::format("{}: cuBLAS status {}", call, status));
}

cudaDataType_t data_type(DType type) {
  switch (type) {
    case DType::bf16:
      return CUDA_R_16BF;
    case DType::f16:
      return CUDA_R_16F;
    default:
      return CUDA_R_32F;
  }
}

/// What tells products apart for the library.
struct Shape {
  std::int64_t rows, columns, inner;
  DType type, result;
  BlasMatrix x, w;
  std::int64_t leading, acc_leading;  ///< of c; of acc, 0: none
  bool bias;
  std::array<std::uint32_t, 4> alignments;  ///< of w, x, acc, c
  std::size_t workspace;
  friend bool operator==(const Shape&, const Shape&) = default;
};

/// A descriptor that the library made.
class Owned {
 public:
  Owned() = default;
  Owned(void* handle, lt::Status (*destroy)(void*)) : handle_(handle), destroy_(destroy) {}
  Owned(Owned&& other) noexcept { *this = std::move(other); }
  Owned& operator=(Owned&& other) noexcept {
    std::swap(handle_, other.handle_);
    std::swap(destroy_, other.destroy_);
    return *this;
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  ~Owned() {
    if (handle_ != nullptr) destroy_(handle_);
  }
  void* get() const { return handle_; }

 private:
  void* handle_ = nullptr;
  lt::Status (*destroy_)(void*) = nullptr;
};

/// Descriptors and algorithm of one shape.
struct Made {
  Shape shape;
  Owned desc, w, x, acc, c;
  lt::Algorithm algorithm{};
  bool possible = false;  ///< the library has an algorithm within the workspace
};

class CublasLt final : public Blas {
 public:
  CublasLt() : api_(lt::open_api()) {
    void* handle = nullptr;
    check_status(api_->create(&handle), "cublasLtCreate");
    handle_ = Owned(handle, api_->destroy);
  }

  void run(void* queue, const Product& product, std::span<std::byte> workspace) override {
    const std::optional<Shape> shape = shape_of(product, workspace);
    if (shape) {
      const Made& made = find(*shape);
      if (made.possible) {
        multiply(queue, product, workspace, made);
        return;
      }
    }
    each(queue, product.rows * product.columns, product);
  }

  std::vector<std::string> refused() const override {
    std::vector<std::string> lines;
    for (const auto& made : made_) {
      const Shape& s = made->shape;
      if (made->possible) continue;
      lines.push_back(fmt::format(
          "cuBLASLt has no algorithm for {} x {} x {} in {} within {}; a plain kernel runs it",
          s.rows, s.columns, s.inner, name_of(s.type),
          binary_bytes(static_cast<std::int64_t>(s.workspace))));
    }
    return lines;
  }

 private:
  static std::optional<Shape> shape_of(const Product& p, std::span<std::byte> workspace) {
    const auto x = blas_matrix(p.x);
    const auto w = blas_matrix(p.w);
    const View& c = p.c.out;
    const View& acc = p.c.acc;
    const auto leading = [&](const View& view) -> std::int64_t {
      if (!view.present()) return 0;
      return view.gap == 0 || view.row == p.columns ? p.columns + view.gap : -1;
    };
    if (!x || !w || leading(c) < 0 || leading(acc) < 0) return std::nullopt;
    return Shape{
        .rows = p.rows,
        .columns = p.columns,
        .inner = p.inner,
        .type = p.x.of.type,
        .result = c.type,
        .x = *x,
        .w = *w,
        .leading = leading(c),
        .acc_leading = leading(acc),
        .bias = p.bias.present(),
        .alignments = {alignment_of(p.w.of.data), alignment_of(p.x.of.data),
                       alignment_of(acc.present() ? acc.data : c.data), alignment_of(c.data)},
        .workspace = workspace.size()};
  }

  /// Made at the first product of a shape, which is before any recording or at the first play.
  const Made& find(const Shape& shape) {
    const auto known = std::find_if(made_.begin(), made_.end(),
                                    [&](const auto& made) { return made->shape == shape; });
    if (known != made_.end()) return **known;
    return *made_.emplace_back(std::make_unique<Made>(make(shape)));
  }

  Owned layout(DType type, std::int64_t rows, std::int64_t columns, std::int64_t leading) const {
    void* layout = nullptr;
    check_status(api_->layout_create(&layout, data_type(type), static_cast<std::uint64_t>(rows),
                                     static_cast<std::uint64_t>(columns), leading),
                 "cublasLtMatrixLayoutCreate");
    return {layout, api_->layout_destroy};
  }

  template <class T>
  void set(const Owned& desc, int attribute, T value) const {
    check_status(api_->desc_set(desc.get(), attribute, &value, sizeof(value)),
                 "cublasLtMatmulDescSetAttribute");
  }

  Made make(const Shape& s) const {
    Made made{.shape = s, .desc = {}, .w = {}, .x = {}, .acc = {}, .c = {}};
    void* desc = nullptr;
    check_status(api_->desc_create(&desc, lt::kCompute32F, CUDA_R_32F), "cublasLtMatmulDescCreate");
    made.desc = Owned(desc, api_->desc_destroy);
    set(made.desc, lt::kDescTransA, s.w.inner_first ? lt::kOpT : lt::kOpN);
    set(made.desc, lt::kDescTransB, s.x.inner_first ? lt::kOpN : lt::kOpT);
    if (s.bias) set(made.desc, lt::kDescEpilogue, lt::kEpilogueBias);
    made.w = s.w.inner_first ? layout(s.type, s.inner, s.columns, s.w.leading)
                             : layout(s.type, s.columns, s.inner, s.w.leading);
    made.x = s.x.inner_first ? layout(s.type, s.inner, s.rows, s.x.leading)
                             : layout(s.type, s.rows, s.inner, s.x.leading);
    made.c = layout(s.result, s.columns, s.rows, s.leading);
    made.acc = layout(s.result, s.columns, s.rows, s.acc_leading == 0 ? s.leading : s.acc_leading);
    choose(made);
    return made;
  }

  void choose(Made& made) const {
    void* preference = nullptr;
    check_status(api_->preference_create(&preference), "cublasLtMatmulPreferenceCreate");
    const Owned owner(preference, api_->preference_destroy);
    const auto prefer = [&](int attribute, auto value) {
      check_status(api_->preference_set(preference, attribute, &value, sizeof(value)),
                   "cublasLtMatmulPreferenceSetAttribute");
    };
    prefer(lt::kPreferenceMaxWorkspace, made.shape.workspace);
    prefer(lt::kPreferenceReductionMask, lt::kReductionComputeType);
    for (int i = 0; i < 4; ++i) {
      prefer(lt::kPreferenceAlignmentA + i, made.shape.alignments[static_cast<std::size_t>(i)]);
    }
    lt::HeuristicResult result{};
    int found = 0;
    const lt::Status status =
        api_->heuristic(handle_.get(), made.desc.get(), made.w.get(), made.x.get(), made.acc.get(),
                        made.c.get(), preference, 1, &result, &found);
    made.possible =
        status == 0 && found > 0 && result.state == 0 && result.workspace <= made.shape.workspace;
    made.algorithm = result.algorithm;
  }

  void multiply(void* queue, const Product& p, std::span<std::byte> workspace,
                const Made& made) const {
    const float alpha = 1.0F;
    const float beta = p.c.acc.present() ? 1.0F : 0.0F;
    if (p.bias.present()) {
      const void* const bias = p.bias.data;
      set(made.desc, lt::kDescBiasPointer, bias);
    }
    const void* const acc = p.c.acc.present() ? p.c.acc.data : p.c.out.data;
    check_status(
        api_->matmul(handle_.get(), made.desc.get(), &alpha, p.w.of.data, made.w.get(), p.x.of.data,
                     made.x.get(), &beta, acc, made.acc.get(), p.c.out.data, made.c.get(),
                     &made.algorithm, workspace.data(), workspace.size(), stream_of(queue)),
        "cublasLtMatmul");
  }

  std::shared_ptr<const lt::Api> api_;
  Owned handle_;
  std::vector<std::unique_ptr<Made>> made_;
};

}  // namespace

std::unique_ptr<Blas> make_blas() { return std::make_unique<CublasLt>(); }

Blas& library_of(void* queue) {
  Blas* const library = static_cast<Queue*>(queue)->library;
  check(library != nullptr, "a product on a lane without a library");
  return *library;
}

}  // namespace snug::cuda
