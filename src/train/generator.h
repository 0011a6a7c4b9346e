#pragma once
// Text generation: a model, its key-value cache and two programs, `prefill` and `decode`, in one
// planned arena.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/function_ref.h"
#include "core/settings.h"
#include "core/thread_pool.h"
#include "exec/executor.h"
#include "ir/program.h"
#include "plan/kernel.h"
#include "plan/plan.h"
#include "train/run_setup.h"
#include "train/sampling.h"

namespace snug {

/// What a generator is planned for.
struct GeneratorCapacity {
  std::int64_t prompt_tokens = 1;
  std::int64_t new_tokens = 1;
  std::int64_t chunk_tokens = 128;  ///< most tokens of the prompt fed in one call
};

/// A continuation.
struct Generation {
  std::vector<std::int32_t> tokens;  ///< the stop token included, where there is one
  bool stopped = false;              ///< by a stop token
};

class Generator {
 public:
  /// Plans, reserves and loads. Weights stay as stored, bf16 or fp32 (fp16 becomes fp32), unless
  /// the user set `bf16`. UserError when the capacity exceeds the model's positions, DoesNotFit
  /// when the plan exceeds the budget.
  Generator(const ModelSource& model, const GeneratorCapacity& capacity, const Settings& settings);

  /// Feeds tokens behind those fed so far; gives the logits of the last one, valid until the next
  /// call. At least one token, and no more in all than the capacity.
  std::span<const float> feed(std::span<const std::int32_t> tokens);
  /// Forgets what was fed.
  void restart() { fed_ = 0; }

  /// Continues `prompt` until a stop token or `most` tokens; `each` sees every token but the stop
  /// token as soon as it is chosen.
  Generation run(std::span<const std::int32_t> prompt, std::int64_t most, const SamplingRule& rule,
                 FunctionRef<void(std::int32_t)> each);

  DType weight_type() const { return weight_type_; }
  /// Bytes of all arenas: planned, and the highest that was used.
  std::int64_t planned_bytes() const;
  std::int64_t used_bytes() const;
  std::int64_t cache_bytes() const;

 private:
  void check_budget(const DeviceSettings& settings) const;
  void load(const ModelSource& model, std::uint64_t seed);
  std::span<std::byte> bytes_of(std::string_view value) const;
  std::span<const float> play(std::int32_t program, std::span<const std::int32_t> tokens,
                              std::int64_t capacity);

  Target target_;
  std::unique_ptr<KernelSource> kernels_;
  DType weight_type_ = DType::f32;
  StepModule module_;
  Plan plan_;
  ThreadPool pool_;
  std::unique_ptr<Executor> executor_;
  std::vector<std::int32_t> stop_tokens_;
  std::int64_t chunk_ = 1;
  std::int64_t cache_rows_ = 0;
  std::int64_t most_tokens_ = 0;
  std::int64_t fed_ = 0;
};

/// Tokens that end a text: eos_token_id of generation_config.json, else of config.json.
std::vector<std::int32_t> stop_tokens(const ModelSource& model);

/// UserError unless a prompt and the tokens wanted behind it are within the model's positions.
void check_positions(const ModelConfig& config, std::int64_t prompt_tokens,
                     std::int64_t new_tokens);

}  // namespace snug
