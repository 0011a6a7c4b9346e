// Keys of transformers and TRL that are refused for good, and those that change nothing here.
#include "core/settings_table.h"

namespace snug {
namespace {

constexpr std::string_view kUpload = "snug uploads nothing.";
constexpr std::string_view kTracker = "It names a run for trackers, of which there are none yet.";
constexpr std::string_view kLoader = "Rows are read in this process, ahead of the step.";
constexpr std::string_view kCompiled = "The step is always compiled, by snug itself.";
constexpr std::string_view kFused = "Norms, attention, head and loss are always fused.";
constexpr std::string_view kEvalMemory =
    "Evaluation keeps only its sums, in training's micro-batches, so its peak is never above.";
constexpr std::string_view kOneProcess = "One process trains.";

}  // namespace

std::vector<Row> refused_rows() {
  return plain_rows(
      Status::refused,
      {
          {"push_to_hub", "false",
           "snug uploads nothing. After the run: hf upload REPO output_dir."},
          {"trust_remote_code", "false", "snug runs no code that comes with a model."},
          {"model_init_kwargs", "null",
           "The model is what its config.json says; edit a copy of that file."},
          {"dataset_kwargs", "null", "There are no loader arguments; rows are JSON Lines."},
          {"accelerator_config", "null", "There is no accelerate underneath."},
          {"ignore_data_skip", "false",
           "Resuming always goes on at the data's position, else it would not be exact."},
          {"dtype",
           "float32",
           "Say bf16=false for fp32 throughout, or master_weights=none for bf16 weights without an "
           "fp32 copy; the default is bf16 with that copy.",
           {"torch_dtype"},
           {"auto"}},
          {"activation_checkpointing_kwargs",
           "null",
           "Write activation_checkpointing=every:K for every_n_layers.",
           {"gradient_checkpointing_kwargs"},
           {"{use_reentrant: false}", "{use_reentrant: true}", "{every_n_layers: 1}"}},
          {"overwrite_output_dir",
           "",
           "A folder that holds a run is resumed or left alone, never overwritten.",
           {},
           {"false"}},
          {"exclude_modules",
           "",
           "Leave them out in lora_target_modules, by an expression of whole names: "
           "(?!.*down_proj$).*_proj.",
           {},
           {"null", "[]"}},
      });
}

std::vector<Row> no_effect_rows() {
  return plain_rows(
      Status::no_effect,
      {
          {"average_tokens_across_devices", "true",
           "The loss is always divided by the tokens of the whole step."},
          {"bf16_full_eval", "false", "Evaluation has training's precision."},
          {"fp16_full_eval", "false", "Evaluation has training's precision."},
          {"tf32", "null", "fp32 products are fp32."},
          {"bnb_4bit_compute_dtype", "", "Products are in bf16 with bf16=true, else in fp32."},
          {"bnb_4bit_quant_storage", "null",
           "Codes are bytes; the type that holds them is none of "
           "their meaning."},
          {"llm_int8_threshold", "", "All columns are multiplied dequantised, outliers or not."},
          {"torch_compile", "false", kCompiled},
          {"torch_compile_backend", "null", kCompiled},
          {"torch_compile_mode", "null", kCompiled},
          {"use_liger_kernel", "false", kFused, {"enable_liger_kernel", "chunked_cross_entropy"}},
          {"liger_kernel_config", "null", kFused},
          {"attn_implementation", "null", kFused, {"flash_attn", "flash_attention"}},
          {"use_cache", "false", "Training has no KV cache, generation always has."},
          {"torch_empty_cache_steps", "null", "All memory is planned; there is no cache to empty."},
          {"auto_find_batch_size", "false",
           "per_device_train_batch_size=auto knows what fits before the run."},
          {"logging_first_step", "false", "metrics.jsonl has every step."},
          {"log_on_each_node", "true", kOneProcess},
          {"logging_nan_inf_filter", "true", "nan_policy says what happens then."},
          {"include_num_input_tokens_seen", "no", "Tokens are always counted."},
          {"log_level", "passive", "Talk goes to stderr, results to stdout."},
          {"log_level_replica", "warning", kOneProcess},
          {"disable_tqdm", "null", "Progress is drawn on terminals only."},
          {"run_name", "null", kTracker, {"wandb_name"}},
          {"project", "huggingface", kTracker, {"wandb_project"}},
          {"trackio_space_id", "null", kTracker},
          {"trackio_bucket_id", "null", kTracker},
          {"trackio_static_space_id", "null", kTracker},
          {"per_device_eval_batch_size", "8", kEvalMemory, {"eval_batch_size"}},
          {"prediction_loss_only", "false", kEvalMemory},
          {"eval_do_concat_batches", "true", kEvalMemory},
          {"eval_use_gather_object", "false", kEvalMemory},
          {"eval_accumulation_steps", "null", kEvalMemory},
          {"save_on_each_node", "false", kOneProcess},
          {"enable_jit_checkpoint", "false", "SIGTERM and SIGINT always finish the step and save."},
          {"hub_token", "null", kUpload},
          {"hub_private_repo", "null", kUpload},
          {"hub_model_id", "null", kUpload},
          {"hub_strategy", "every_save", kUpload},
          {"hub_always_push", "false", kUpload},
          {"hub_revision", "null", kUpload},
          {"restore_callback_states_from_checkpoint", "false", "There are no callbacks."},
          {"full_determinism", "false", "Every run is deterministic."},
          {"dataloader_num_workers", "0", kLoader, {"preprocessing_num_workers"}},
          {"dataloader_pin_memory", "true", kLoader},
          {"dataloader_persistent_workers", "false", kLoader},
          {"dataloader_prefetch_factor", "null", kLoader},
          {"dataloader_multiprocessing_context", "null", kLoader},
          {"dataloader_in_order", "true", kLoader},
          {"dataset_num_proc", "null", kLoader},
          {"remove_unused_columns", "true", "Columns that no row layout names are not read."},
          {"label_names", "null", "Labels are in the column `labels`, or follow from the rows."},
          {"length_column_name", "length", "Lengths are counted."},
          {"shuffle_dataset", "false", "train_sampling_strategy=random shuffles each epoch."},
          {"pad_to_multiple_of", "auto", "bucket_count says to which lengths rows are padded."},
          {"pad_token", "null", "Padding is never looked at."},
          {"packing_strategy", "bfd",
           "packing is by best-fit decreasing; rows are cut at max_length, never for a sequence."},
          {"padding_free", "false",
           "Padding sees nothing and has no label; packing=true spares its arithmetic too."},
          {"ddp_find_unused_parameters", "null", kOneProcess},
          {"ddp_bucket_cap_mb", "null", kOneProcess},
          {"ddp_broadcast_buffers", "null", kOneProcess},
          {"ddp_static_graph", "null", kOneProcess},
          {"ddp_backend", "null", kOneProcess},
          {"ddp_timeout", "1800", kOneProcess},
          {"local_rank", "-1", kOneProcess},
          {"skip_memory_metrics", "true", "Memory is in every line of metrics.jsonl."},
          {"do_train", "false", "The verb says what is done."},
          {"do_eval", "false", "The verb and eval_strategy say what is done."},
          {"do_predict", "false", "The verb says what is done."},
      });
}

}  // namespace snug
