#include "train/generator.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "backend/backend.h"
#include "core/error.h"
#include "core/json.h"
#include "core/text.h"
#include "io/file.h"
#include "io/model_files.h"
#include "passes/pipeline.h"
#include "passes/precision.h"
#include "train/weights.h"

namespace snug {
namespace {

/// The type that stored weights are kept in: what is asked for, else that of the embedding. fp16 is
/// kept as fp32, which holds it exactly: decoding would widen it again for every token.
DType kept_type(const ModelSource& model, const Settings& settings) {
  const bool asked = settings.is_set("bf16") || settings.is_set("fp16");
  if (!model.has_weights || asked) return stored_dtype(settings.precision);
  const ModelWeights weights(model.folder);
  const TensorView* table = weights.find("model.embed_tokens.weight");
  return table != nullptr && table->dtype == DType::bf16 ? DType::bf16 : DType::f32;
}

/// Prompt tokens of one call: as many calls as `most` asks for, of equal size.
std::int64_t chunk_tokens(const GeneratorCapacity& capacity) {
  const std::int64_t calls =
      (capacity.prompt_tokens + capacity.chunk_tokens - 1) / capacity.chunk_tokens;
  return (capacity.prompt_tokens + calls - 1) / calls;
}

/// Rows of the cache. The prompt's last chunk is padded: its rows beyond the prompt lie in the
/// cache until decode, which starts behind the prompt, has overwritten them; nobody sees them
/// before.
std::int64_t cache_rows(const GeneratorCapacity& capacity) {
  const std::int64_t chunk = chunk_tokens(capacity);
  const std::int64_t calls = (capacity.prompt_tokens + chunk - 1) / chunk;
  return std::max(capacity.prompt_tokens + capacity.new_tokens, calls * chunk);
}

StepModule compile(const ModelSource& model, const GeneratorCapacity& capacity, Settings settings,
                   DType weight_type) {
  check_positions(model.config, capacity.prompt_tokens, capacity.new_tokens);
  adopt_quantization(settings, model);
  settings.precision.bf16 = weight_type == DType::bf16;
  settings.precision.fp16 = weight_type == DType::f16;
  settings.precision.master_weights = MasterWeights::none;
  return compile_generation(
      model.config,
      {.tokens = chunk_tokens(capacity), .cache_rows = cache_rows(capacity), .logit_rows = 1},
      settings);
}

std::int64_t sum_of_spaces(FunctionRef<std::int64_t(Space)> bytes) {
  return bytes(Space::device) + bytes(Space::host) + bytes(Space::disk);
}

}  // namespace

void check_positions(const ModelConfig& config, std::int64_t prompt_tokens,
                     std::int64_t new_tokens) {
  const std::int64_t room = config.max_position_embeddings - prompt_tokens;
  if (new_tokens <= room) return;
  if (room < 1) {
    user_error(
        "the prompt has {} tokens; the model knows {} positions (max_position_embeddings). "
        "Shorten the prompt.",
        group_digits(prompt_tokens), group_digits(config.max_position_embeddings));
  }
  user_error(
      "prompt and max_new_tokens are {} + {} tokens; the model knows {} positions "
      "(max_position_embeddings). Use max_new_tokens={}.",
      group_digits(prompt_tokens), group_digits(new_tokens),
      group_digits(config.max_position_embeddings), room);
}

std::vector<std::int32_t> stop_tokens(const ModelSource& model) {
  std::vector<std::int32_t> stops(model.config.eos_token_ids.begin(),
                                  model.config.eos_token_ids.end());
  const std::filesystem::path file = model.folder / "generation_config.json";
  if (model.folder.empty() || !std::filesystem::exists(file)) return stops;
  const nlohmann::json config = parse_json(read_text(file), file.string());
  const auto found = config.is_object() ? config.find("eos_token_id") : config.end();
  if (found == config.end() || found->is_null()) return stops;
  stops.clear();
  for (const nlohmann::json& id : found->is_array() ? *found : nlohmann::json{*found}) {
    if (!id.is_number_integer()) {
      user_error("{}: 'eos_token_id' is {}, expected a token id or a list of them.", file.string(),
                 found->dump());
    }
    stops.push_back(id.get<std::int32_t>());
  }
  return stops;
}

Generator::Generator(const ModelSource& model, const GeneratorCapacity& capacity,
                     const Settings& settings)
    : target_(make_target(settings.device)),
      kernels_(make_backend(target_)),
      weight_type_(kept_type(model, settings)),
      module_(compile(model, capacity, settings, weight_type_)),
      plan_(make_plan(module_, *kernels_, target_)),
      pool_(target_.threads),
      stop_tokens_(stop_tokens(model)),
      chunk_(chunk_tokens(capacity)),
      cache_rows_(cache_rows(capacity)),
      most_tokens_(capacity.prompt_tokens + capacity.new_tokens) {
  check_adapter(module_.parameters, model, settings.lora.modules_to_save);
  check_budget(settings.device);
  if (model.has_weights) check_packed_weights(module_.parameters, ModelWeights(model.folder));
  executor_ = std::make_unique<Executor>(plan_, reserve_arenas(plan_, pool_), pool_);
  load(model, static_cast<std::uint64_t>(settings.run.seed));
}

void Generator::check_budget(const DeviceSettings& settings) const {
  const ProcessMemory memory = process_memory(settings, target_);
  const std::int64_t needed = std::max(planned_bytes() + outside_bytes(module_, plan_, {}).total(),
                                       planning_bytes(module_, plan_, {}));
  if (needed <= memory.budget) return;
  throw DoesNotFit(fmt::format(
      "does not fit: needs {}, device_memory is {}. Use a smaller max_new_tokens or a shorter "
      "prompt (the cache takes {}), or a larger device_memory.",
      binary_bytes(needed), binary_bytes(memory.budget), binary_bytes(cache_bytes())));
}

void Generator::load(const ModelSource& model, std::uint64_t seed) {
  const auto bytes = [this](std::string_view value) { return bytes_of(value); };
  fill_weights(module_.parameters, model, seed, bytes, pool_);
  executor_->play(module_.script.init);
}

std::span<std::byte> Generator::bytes_of(std::string_view value) const {
  return executor_->bytes(value);
}

std::span<const float> Generator::feed(std::span<const std::int32_t> tokens) {
  check(!tokens.empty() && fed_ + static_cast<std::int64_t>(tokens.size()) <= most_tokens_,
        "{} tokens fed behind {}, planned for {}", tokens.size(), fed_, most_tokens_);
  const StepScript::Bucket& programs = module_.script.buckets.front();
  while (true) {
    // A padded chunk may reach beyond the cache where feeding did not start at a chunk's begin.
    const bool one = tokens.size() == 1 || fed_ + chunk_ > cache_rows_;
    const std::int64_t capacity = one ? 1 : chunk_;
    const std::size_t count = std::min(tokens.size(), static_cast<std::size_t>(capacity));
    const auto logits = play(one ? programs.next : programs.first, tokens.first(count), capacity);
    if (count == tokens.size()) return logits;
    tokens = tokens.subspan(count);
  }
}

std::span<const float> Generator::play(std::int32_t program, std::span<const std::int32_t> tokens,
                                       std::int64_t capacity) {
  const auto ids = executor_->value<std::int32_t>(program, "input/ids");
  const auto positions = executor_->value<std::int32_t>(program, "input/positions");
  for (std::size_t i = 0; i < static_cast<std::size_t>(capacity); ++i) {
    ids[i] = tokens[std::min(i, tokens.size() - 1)];
    positions[i] = static_cast<std::int32_t>(fed_) + static_cast<std::int32_t>(i);
  }
  executor_->value<std::int32_t>(program, "input/logit_rows")[0] =
      static_cast<std::int32_t>(tokens.size()) - 1;
  executor_->value<std::int32_t>("scalar/position")[0] = static_cast<std::int32_t>(fed_);
  executor_->play(program);
  fed_ += static_cast<std::int64_t>(tokens.size());
  return executor_->value<float>(program, "metric/logits");
}

Generation Generator::run(std::span<const std::int32_t> prompt, std::int64_t most,
                          const SamplingRule& rule, FunctionRef<void(std::int32_t)> each) {
  restart();
  Sampler sampler(rule);
  Generation generation;
  std::span<const float> logits = feed(prompt);
  for (std::int64_t index = 0; index < most; ++index) {
    const std::int32_t token = sampler.choose(logits, index);
    generation.tokens.push_back(token);
    generation.stopped =
        std::find(stop_tokens_.begin(), stop_tokens_.end(), token) != stop_tokens_.end();
    if (generation.stopped) break;
    each(token);
    if (index + 1 < most) logits = feed({&token, 1});
  }
  return generation;
}

std::int64_t Generator::planned_bytes() const {
  return sum_of_spaces([this](Space space) { return plan_.arena(space).bytes; });
}

std::int64_t Generator::used_bytes() const {
  return sum_of_spaces([this](Space space) { return executor_->used_peak(space); });
}

std::int64_t Generator::cache_bytes() const {
  std::int64_t bytes = 0;
  for (const Root& root : plan_.roots) {
    if (root.role == Role::kv_cache) bytes += root.bytes;
  }
  return bytes;
}

}  // namespace snug
