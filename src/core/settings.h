#pragma once
// What a run is told to do: one struct per concern, filled from config.yaml and the command line.
//
// The members' initialisers are the plain values (techniques off). A user's defaults are in the
// settings table (core/settings_table.h), which also names, explains, parses and prints every key.
// Structs named ...Options belong to one technique each: besides the table, only the technique's
// own file in passes/ names them; everybody else reaches them as fields (`settings.recompute`).

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/bytes.h"

namespace snug {

/// A number of things or, below 1, a share of all of them.
struct CountOrShare {
  double value = 0;
  /// The number meant out of `total`; a share is rounded up.
  std::int64_t of(std::int64_t total) const;
  bool operator==(const CountOrShare&) const = default;
};

/// A time, kept apart from other numbers.
struct Duration {
  double seconds = 0;
  bool operator==(const Duration&) const = default;
};

enum class InitWeights { pretrained, random };
enum class FinetuningType { full, freeze, lora };

struct ModelSettings {
  std::string name_or_path;  // a folder, a hub id in the local cache, or shape:NAME
  InitWeights init = InitWeights::pretrained;
  FinetuningType finetuning = FinetuningType::full;
  std::string adapter;  // a PEFT folder to go on from; empty: none
};

/// Numbers by name or pattern, in the order written.
using NamedNumbers = std::vector<std::pair<std::string, double>>;

struct LoraOptions {
  std::int64_t rank = 16;
  std::optional<double> alpha;  // none: 2 rank
  double dropout = 0;
  std::vector<std::string> targets;  // names, suffixes or regular expressions; `all-linear`
  std::vector<std::string> modules_to_save;
  bool rslora = false;
  bool dora = false;
  NamedNumbers rank_pattern;
  NamedNumbers alpha_pattern;
};

/// finetuning_type full: what matches no pattern is frozen, unless there is none. freeze: so is
/// what lies in no chosen layer.
struct FreezeOptions {
  std::vector<std::string> unfrozen;       // regular expressions of parameters' names
  std::int64_t layers = 2;                 // with freeze: the last n, or the first -n
  std::vector<std::string> modules;        // of those layers; `all`
  std::vector<std::string> extra_modules;  // outside the layers
};

enum class RowOrder { random, sequential };
/// Which tokens have a label; `automatic`: assistant turns, completions, all of a text. `whole`:
/// all of messages, completions, all of a text.
enum class TrainOn { automatic, all, assistant, last, completion, whole };
enum class BadRows { stop, skip };
/// Rows above max_length; `automatic`: whole .txt files are split, other rows truncated.
enum class ExcessLength { automatic, truncate, drop, raise, split };
enum class TruncationMode { keep_start, keep_end };

/// What columns are called in the files, by the layouts' own names.
struct ColumnNames {
  std::map<std::string, std::string, std::less<>> names;
  bool operator==(const ColumnNames&) const = default;
};

struct DataSettings {
  std::vector<std::string> train_files;
  std::vector<std::string> eval_files;
  CountOrShare val_size;                   // taken off train_files when there are no eval_files
  std::optional<std::int64_t> max_length;  // tokens; none: what the model can
  bool append_eos = true;
  TrainOn train_on = TrainOn::automatic;
  ColumnNames columns;
  std::string text_field = "text";
  std::string chat_template;  // a name, a file or the text; empty: the model's own
  BadRows bad_rows = BadRows::stop;
  ExcessLength excess_length = ExcessLength::automatic;
  TruncationMode truncation = TruncationMode::keep_start;
  RowOrder order = RowOrder::random;
  std::optional<std::int64_t> data_seed;  // none: the run's seed
  std::int64_t bucket_count = 8;
  bool packing = false;              // several rows a sequence, as documents apart
  std::optional<bool> eval_packing;  // none: as packing
};

/// Rows a step and how they are cut into micro-batches; see resolve_batch.
struct BatchSettings {
  std::optional<std::int64_t> global_batch_size;
  std::optional<std::int64_t> per_device_train_batch_size;
  std::optional<std::int64_t> gradient_accumulation_steps;
};

enum class Scheduler {
  linear,
  cosine,
  cosine_with_restarts,
  polynomial,
  constant,
  constant_with_warmup,
  inverse_sqrt,
  cosine_with_min_lr,
  cosine_warmup_with_min_lr,
  warmup_stable_decay,
};

/// lr_scheduler_kwargs, with transformers' names; what is not given has transformers' default.
struct SchedulerArguments {
  std::optional<double> num_cycles;
  std::optional<double> min_lr;
  std::optional<double> min_lr_rate;
  std::optional<double> warmup_lr_rate;
  std::optional<double> min_lr_ratio;
  std::optional<double> power;
  std::optional<double> lr_end;
  std::optional<std::int64_t> timescale;
  std::optional<std::int64_t> num_decay_steps;
  std::optional<std::int64_t> num_stable_steps;
  std::optional<std::string> warmup_type;  // linear, cosine, 1-sqrt
  std::optional<std::string> decay_type;   // linear, cosine, 1-sqrt
  bool operator==(const SchedulerArguments&) const = default;
};

struct ScheduleSettings {
  double learning_rate = 0;
  Scheduler type = Scheduler::constant;
  SchedulerArguments arguments;
  CountOrShare warmup_steps;
  double num_train_epochs = 1;
  std::int64_t max_steps = -1;  // above 0: overrides the epochs
};

/// The update rule: values of `optim`.
enum class Optimizer {
  adamw_torch,
  adamw_8bit,      // the second moment's root in 8 bits
  adamw_bnb_8bit,  // bitsandbytes' state
  adafactor,       // transformers'
  adafactor_torch,
  lion_32bit,
  lion_8bit,
  sgd,
};

/// optim_args: numbers and switches of the rule's own, in transformers' syntax. The rule reads
/// them.
struct OptimizerArguments {
  std::map<std::string, std::string, std::less<>> values;
  bool operator==(const OptimizerArguments&) const = default;
};

struct OptimizerSettings {
  Optimizer rule = Optimizer::adamw_torch;
  OptimizerArguments arguments;
  double weight_decay = 0;
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.999;
  double adam_epsilon = 1e-8;
  double max_grad_norm = 0;  // 0: gradients are not clipped
};

struct UpdateInBackwardOptions {
  bool on = false;
};

enum class MasterWeights { fp32, none };
enum class GradientType { automatic, bf16, fp32 };

struct PrecisionOptions {
  bool bf16 = false;  // neither: everything is fp32
  bool fp16 = false;  // before bf16 when both are set by default
  MasterWeights master_weights = MasterWeights::fp32;
  GradientType gradient_dtype = GradientType::automatic;  // automatic: as the weights
};

enum class FourBitType { nf4, fp4 };

/// Frozen linear weights of the layers, stored in fewer bits; with bitsandbytes' names.
struct QuantizationOptions {
  bool load_in_4bit = false;
  bool load_in_8bit = false;
  FourBitType type = FourBitType::nf4;
  bool double_quant = false;      // the scales of 4-bit weights too
  std::vector<std::string> skip;  // modules that stay as they are
};

struct RecomputeOptions {
  enum class Policy {
    automatic,       // the cheapest that fits
    off,             // `false`
    every_block,     // `true`
    cheap,           // norms, activations, casts
    every,           // `every:K`, one block in K
    segments,        // `segments:K`
    keep_attention,  // every block, attention's output kept
    sqrt,            // about sqrt(layers) segments
    limit,           // a size: saved activations stay below it
  };
  Policy policy = Policy::off;
  std::int64_t number = 0;  // every, segments: K; limit: bytes; else 0
  bool operator==(const RecomputeOptions&) const = default;
};

struct MlpChunkOptions {
  std::int64_t count = 1;  // tiles of a micro-batch's tokens; 1: none
};

struct LossOptions {
  Bytes chunk;  // of the logits alive at once; 0: all rows in one chunk
};

enum class DeviceKind { automatic, cpu, cuda, reference };
enum class InstructionSet { automatic, avx2, avx512, avx512_bf16, amx };

struct DeviceSettings {
  DeviceKind kind = DeviceKind::automatic;
  std::optional<std::string> profile;  // of a card; none: the one in this machine
  bool graphs = false;                 // replay whole programs on a card
  std::optional<Bytes> memory;         // of the whole process; none: what is free
  InstructionSet instruction_set = InstructionSet::automatic;  // a cap
  std::optional<std::int64_t> threads;
};

/// `steps`, `epoch`: how often; `automatic`: each epoch when there are rows to evaluate.
enum class Interval { automatic, no, steps, epoch };

struct EvaluationSettings {
  Interval strategy = Interval::no;
  std::optional<CountOrShare> steps;  // none: logging_steps
};

struct LoggingSettings {
  CountOrShare steps{1};
};

struct SaveSettings {
  Interval strategy = Interval::no;
  CountOrShare steps{1};
  std::optional<std::int64_t> total_limit;  // none: all are kept
  std::optional<Duration> interval;         // by the clock, beside `steps`; none: never
  bool only_model = false;                  // checkpoints without what resuming needs
};

/// resume_from_checkpoint: `latest` looks for the newest checkpoint that loads; `automatic` does so
/// where there is one, and starts afresh elsewhere.
struct Resume {
  bool latest = false;
  std::string folder;
  bool automatic = false;
  bool wanted() const { return latest || automatic || !folder.empty(); }
  bool operator==(const Resume&) const = default;
};

enum class NanPolicy { stop, skip };

struct RunSettings {
  std::optional<std::string> output_dir;  // none: runs/MODEL-DATA
  Resume resume;
  std::int64_t seed = 0;
  NanPolicy nan_policy = NanPolicy::stop;
  Duration stop_grace;  // from SIGTERM to the end
  std::string on_end;   // a shell command; empty: none
};

struct GenerateSettings {
  std::string prompt;
  std::int64_t max_new_tokens = 1;
  bool do_sample = false;
  double temperature = 1;
  double top_p = 1;
};

struct InspectSettings {
  std::int64_t rows = 1;
};

enum class ExportFormat { safetensors, gguf };
enum class ExportType { automatic, fp32, fp16, bf16, q8_0 };

struct ExportSettings {
  ExportFormat format = ExportFormat::safetensors;
  ExportType dtype = ExportType::automatic;  // automatic: as stored
  Bytes max_shard_size{1};
};

struct BenchSettings {
  std::string shape;  // empty: the model of model_name_or_path
  std::int64_t batch = 1;
  std::int64_t sequence = 1;
  std::int64_t steps = 1;
  std::int64_t accumulation = 1;
};

struct PlanSettings {
  bool details = false;
};

struct ExplainSettings {
  std::string after;  // the pass whose graph is printed; empty: the last
  bool kernels = false;
};

/// Where a value comes from. `place` starts a message: `config.yaml:7`, `command line`, `default`.
struct Origin {
  enum class Level { by_default, file, command_line };
  Level level = Level::by_default;
  std::string place = "default";
};

struct Settings {
  ModelSettings model;
  DataSettings data;
  BatchSettings batch;
  ScheduleSettings schedule;
  OptimizerSettings optimizer;
  UpdateInBackwardOptions update_in_backward;
  PrecisionOptions precision;
  QuantizationOptions quantization;
  RecomputeOptions recompute;
  MlpChunkOptions mlp_chunks;
  LossOptions loss;
  LoraOptions lora;
  FreezeOptions freeze;
  DeviceSettings device;
  EvaluationSettings evaluation;
  LoggingSettings logging;
  SaveSettings save;
  RunSettings run;
  GenerateSettings generate;
  InspectSettings inspect;
  BenchSettings bench;
  ExplainSettings explain;
  PlanSettings plan;
  ExportSettings exporting;

  std::map<std::string, Origin, std::less<>> origins;  // of the canonical keys that were set
  std::vector<std::string> notes;  // keys without effect here, to be shown to the user

  /// Where the value of a canonical key comes from.
  Origin origin(std::string_view key) const;
  /// Whether the user set this canonical key.
  bool is_set(std::string_view key) const { return origins.contains(key); }
};

/// The rows of a step: rows = micro-batch × accumulation × ranks. What is left to the plan is none;
/// `accumulation` follows once `micro` is chosen.
struct BatchShape {
  std::int64_t rows = 0;
  std::optional<std::int64_t> micro;
  std::optional<std::int64_t> accumulation;
};

/// Joins the three batch keys. global_batch_size alone leaves the micro-batch open.
/// per_device_train_batch_size and gradient_accumulation_steps, when set without it, mean what they
/// mean in transformers: their product is the step (accumulation is 1 when not set). UserError when
/// the product cannot equal global_batch_size.
BatchShape resolve_batch(const Settings& settings, std::int64_t ranks = 1);

}  // namespace snug
