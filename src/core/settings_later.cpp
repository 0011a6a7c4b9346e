// Keys of techniques that are not in this version: refused unless their value asks for nothing.
#include "core/settings_table.h"

namespace snug {
namespace {

constexpr std::string_view kOffload = "Offload to host or disk is not in this version.";
constexpr std::string_view kRanks = "Training over several processes is not in this version.";
constexpr std::string_view kBest = "Keeping the best checkpoint is not in this version.";
constexpr std::string_view kMetrics =
    "Evaluation gives the loss; other metrics are not in this version.";

}  // namespace

std::vector<Row> later_rows() {
  return plain_rows(
      Status::later,
      {
          {"lora_target_parameters", "null",
           "Adapters on mixture-of-experts parameters are not in this version."},
          {"lora_task_type", "CAUSAL_LM", "Adapters of other tasks are not in this version."},
          {"activation_offloading",
           "false",
           kOffload,
           {"enable_activation_offloading", "use_unsloth_gc", "cpu_checkpointing"}},
          {"optimizer_offload", "", kOffload, {"offload_optimizer"}},
          {"parameter_offload", "", kOffload, {"offload_param"}},
          {"deepspeed", "null", kRanks},
          {"fsdp", "null", kRanks},
          {"fsdp_config", "null", kRanks},
          {"parallelism_config", "null", kRanks},
          {"tensor_parallel_size", "", kRanks, {}, {"1"}},
          {"context_parallel_size", "", kRanks, {}, {"1"}},
          {"optim_target_modules", "null", "GaLore and APOLLO are not in this version."},
          {"label_smoothing_factor", "0.0", "Label smoothing is not in this version."},
          {"neftune_noise_alpha", "null", "NEFTune's noise is not in this version."},
          {"loss_type",
           "nll",
           "Losses other than the cross-entropy are not in this version.",
           {},
           {"chunked_nll"}},
          {"router_aux_loss_coef", "null", "Mixture-of-experts models are not in this version."},
          {"stage",
           "",
           "Preference and reward training are not in this version.",
           {},
           {"sft", "pt"}},
          {"eos_token", "null", "Another end token than the tokenizer's is not in this version."},
          {"dataloader_drop_last", "false", "The last, smaller batch of an epoch is always used."},
          {"model_revision", "main",
           "Other revisions than main: give the snapshot's folder as the model."},
          {"logging_strategy", "steps",
           "Progress lines follow logging_steps; metrics.jsonl has every step."},
          {"eval_delay", "0", "A delay before the first evaluation is not in this version."},
          {"eval_on_start", "false",
           "Evaluating before step 1 is not in this version; run snug eval first."},
          {"include_for_metrics", "[]", kMetrics},
          {"batch_eval_metrics", "false", kMetrics},
          {"load_best_model_at_end", "false", kBest},
          {"metric_for_best_model", "null", kBest},
          {"greater_is_better", "null", kBest},
          {"debug",
           "",
           "HF's debug hooks are not in this version; nan_policy watches for overflow.",
           {},
           {"", "[]"}},
      });
}

}  // namespace snug
