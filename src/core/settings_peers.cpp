// Keys of Axolotl and LLaMA-Factory that neither transformers nor TRL have: those that change
// nothing here are taken with a line saying so, those that would change a run are refused unless
// they ask for nothing.
#include <algorithm>

#include "core/settings_table.h"

namespace snug {
namespace {

/// Keys with one answer. `names`, with spaces between: `name`, or `name=value` with the value that
/// asks for nothing besides null and false.
struct Peers {
  Status status;
  std::string_view sentence;
  std::string_view names;
};

/// Rows and tokenizer.
std::vector<Peers> data_peers() {
  return {
      {Status::refused,
       "Rows come from files and the local cache: write train_file (and eval_file) with their "
       "paths.",
       "datasets test_datasets pretraining_dataset dataset_dir"},
      {Status::later,
       "Rows are taken as the files have them, all of them; reading a part or mixing by shares is "
       "not in this version.",
       "max_samples streaming interleave_probs mix_strategy=concat dataset_shard_num "
       "dataset_shard_idx curriculum_sampling dataset_exact_deduplication "
       "eval_on_each_dataset"},
      {Status::later,
       "chat_template takes a file, a name or the text of a template; these keys are not in this "
       "version.",
       "template chat_template_jinja chat_template_kwargs default_system "
       "default_system_message tool_format enable_thinking=true preserve_thinking eot_tokens"},
      {Status::later,
       "excess_length_strategy says what becomes of long rows; other bounds are not in this "
       "version.",
       "min_sample_len max_prompt_len eval_sequence_len"},
      {Status::later,
       "The tokenizer is the model's own tokenizer.json; other tokens or another reading of it are "
       "not in this version.",
       "special_tokens tokens added_tokens_overrides add_tokens add_special_tokens "
       "new_special_tokens_config resize_vocab split_special_tokens tokenizer_config "
       "tokenizer_use_mistral_common resize_token_embeddings_to_32x shrink_embeddings "
       "fix_untrained_tokens"},
      {Status::no_effect, "The tokenizer is the model's own tokenizer.json.",
       "tokenizer_type tokenizer_use_fast=true tokenizer_legacy "
       "tokenizer_save_jinja_files=true use_fast_tokenizer=true "
       "init_special_tokens=noise_init mean_resizing_embeddings embeddings_skip_upcast "
       "processor_type processor_kwargs"},
      {Status::no_effect,
       "Rows are read, tokenised and shuffled anew by each run; nothing of it is kept on disk.",
       "dataset_prepared_path dataset_processes dataset_keep_in_memory "
       "shuffle_merged_datasets=true shuffle_before_merging_datasets skip_prepare_dataset "
       "num_dataset_shards_to_save overwrite_cache preprocessing_batch_size=1000 "
       "tokenized_path data_shared_file_system buffer_size=16384 cache_dir is_preprocess "
       "preprocess_iterable total_num_tokens total_supervised_tokens "
       "streaming_multipack_buffer_size=10000 pretrain_multipack_buffer_size "
       "pretrain_multipack_attn=true pretraining_sample_concatenation media_dir=null "
       "download_mode=reuse_dataset_if_exists hf_use_auth_token"},
      {Status::no_effect,
       "Packing is by best-fit decreasing over all rows, which never see each other.",
       "sample_packing_group_size=100000 sample_packing_bin_size=200 "
       "sample_packing_sequentially sample_packing_mp_start_method sample_packing_eff_est "
       "multipack_real_batches batch_flattening block_diag_attn use_packed_sequences"},
      {Status::no_effect, "bucket_count says to which lengths rows are padded.",
       "pad_to_sequence_len ignore_pad_token_for_loss=true max_packed_sequence_len"},
  };
}

/// Model, precision, memory.
std::vector<Peers> model_peers() {
  return {
      {Status::refused, "The model is what its config.json says; edit a copy of that file.",
       "overrides_of_model_config overrides_of_model_kwargs rope_scaling shift_attn "
       "s2_attention mixture_of_depths scaling_softmax scaling_softmax_factor "
       "scaling_softmax_bias use_pose model_max_length base_model_config=null "
       "cls_model_config revision_of_model train_from_scratch reinit_weights"},
      {Status::no_effect, "The model's kind is what its config.json says.",
       "type_of_model is_falcon_derived_model is_llama_derived_model is_mistral_derived_model "
       "is_qwen_derived_model"},
      {Status::no_effect, "Norms, attention, head and loss are always fused.",
       "xformers_attention sdp_attention flex_attention flex_attn_compile_kwargs "
       "flash_attn_cross_entropy flash_attn_fuse_mlp flash_attn_rms_norm flash_optimum "
       "sage_attention eager_attention gemma4_hybrid_attn_impl large_head_attention "
       "flash_attn_d512 sdpa_varlen fused_attn_kernel lora_mlp_kernel lora_qkv_kernel "
       "lora_o_kernel lora_embedding_kernel use_kernels use_v1_kernels use_unsloth "
       "cross_entropy_loss_fusion bias_activation_fusion apply_rope_fusion "
       "masked_softmax_fusion chunked_cross_entropy_num_chunks torch_compile_options "
       "deepcompile"},
      {Status::no_effect,
       "Storage and sums have the types that bf16 and its kin say; nothing is cast on the way.",
       "upcast_layernorm upcast_lmhead_output fp32_norms fp32_norm_classes "
       "peft_autocast_adapter_dtype compute_dtype infer_dtype=auto mixed_precision"},
      {Status::later, "FP8 is not in this version.", "fp8 fp8_enable_fsdp_float8_all_gather"},
      {Status::no_effect, "FP8 is not in this version.", "fp8_backend=auto"},
      {Status::later,
       "Quantisation is bitsandbytes' 4 and 8 bits; other methods are not in this version.",
       "quantization_method=bnb gptq qat quantization model_quantization_config "
       "model_quantization_config_kwargs bnb_config_kwargs quantize_moe_experts "
       "use_onebitllms export_quantization_bit"},
      {Status::no_effect,
       "Exported weights are quantised with export_format=gguf export_dtype=q8_0 only.",
       "export_quantization_dataset export_quantization_nsamples=128 "
       "export_quantization_maxlen=1024 export_device=cpu export_legacy_format "
       "export_hub_model_id merge_lora merge_method=memory_efficient export_hf_on_finish "
       "save_safetensors=true"},
      {Status::no_effect, "All memory is planned, and device_memory is its limit.",
       "low_cpu_mem_usage=true max_memory gpu_memory_limit gc_steps gc_collect_steps "
       "device_map quantization_device_map experimental_skip_move_to_device=true "
       "qlora_sharded_model_loading lora_on_cpu use_reentrant_gc=true recompute_granularity "
       "recompute_method recompute_num_layers selective_checkpointing offload_folder=offload"},
      {Status::later, "Offload to host or disk is not in this version.", "layer_offloading"},
      {Status::no_effect, "mlp_chunks says into how many tiles the MLP is cut.",
       "tiled_mlp_num_shards tiled_mlp_use_original_mlp=true"},
  };
}

/// Adapters.
std::vector<Peers> adapter_peers() {
  return {
      {Status::later,
       "Adapters start from a uniform A and B = 0; other starts are not in this version.",
       "pissa_init peft_init_lora_weights=true loftq_config"},
      {Status::no_effect, "It belongs to PiSSA, which is not in this version.",
       "pissa_iter=16 pissa_convert"},
      {Status::later,
       "Adapters are LoRA with rsLoRA or DoRA on whole linear layers; other kinds are not in this "
       "version.",
       "peft peft_layers_to_transform peft_layers_pattern peft_layer_replication "
       "peft_trainable_token_indices peft_ensure_weight_tying lora_fan_in_fan_out "
       "loraplus_lr_ratio relora create_new_adapter use_llama_pro adapter_folder=null"},
      {Status::no_effect, "It belongs to a kind of adapter that is not in this version.",
       "loraplus_lr_embedding=1e-06 relora_prune_ratio relora_prune_method=magnitude "
       "relora_cpu_offload module_dropout=0.0 oft_rank=0 oft_block_size=32 oft_target=all"},
      {Status::later, "Layers in turn are not in this version; unfrozen_parameters trains a part.",
       "lisa_n_layers use_badam"},
      {Status::no_effect, "It belongs to training layers in turn, which is not in this version.",
       "lisa_step_interval lisa_layers_attribute=model.layers badam_mode=layer "
       "badam_start_block badam_switch_mode=ascending badam_switch_interval=50 "
       "badam_update_ratio=0.05 badam_mask_mode=adjacent badam_verbose=0"},
  };
}

/// Optimizer, schedule, loss.
std::vector<Peers> schedule_peers() {
  return {
      {Status::later, "This rule is not in this version; optim lists those that are.",
       "use_galore use_apollo use_adam_mini use_muon torchdistx_path adam_beta3 adam_epsilon2 "
       "dion_lr dion_momentum embedding_lr embedding_lr_scale lr_groups"},
      {Status::no_effect, "It belongs to an optimizer that is not in this version.",
       "galore_target=all galore_rank=16 galore_update_interval=200 galore_scale=2.0 "
       "galore_proj_type=std galore_layerwise apollo_target=all apollo_rank=16 "
       "apollo_update_interval=200 apollo_scale=32.0 apollo_proj=random apollo_proj_type=std "
       "apollo_scale_type=channel apollo_layerwise apollo_scale_front dion_rank_fraction=1.0 "
       "dion_rank_multiple_of=1 qgalore_rank=256 qgalore_update_proj_gap=200 "
       "qgalore_scale=0.25 qgalore_proj_type=std qgalore_proj_quant=true qgalore_proj_bits=4 "
       "qgalore_proj_group_size=256 qgalore_cos_threshold=0.4 qgalore_gamma_proj=2 "
       "qgalore_queue_size=5 use_distributed_optimizer"},
      {Status::later,
       "This schedule is not in this version; lr_scheduler_type and lr_scheduler_kwargs say what "
       "is.",
       "lr_quadratic_warmup cosine_min_lr_ratio cosine_constant_lr_ratio lr_div_factor "
       "jagged_restart_steps"},
      {Status::no_effect, "It belongs to a schedule that is not in this version.",
       "jagged_restart_warmup_steps jagged_restart_anneal_steps"},
      {Status::later, "Losses other than the cross-entropy are not in this version.",
       "use_dft_loss use_asft_loss use_eaft_loss use_eaft noisy_embedding_alpha"},
      {Status::no_effect, "It belongs to a loss that is not in this version.",
       "asft_alpha=0.1 eaft_alpha=1.0 eaft_k=20 calculate_per_token_loss=true "
       "moe_aux_loss_coef"},
      {Status::refused,
       "Write eval_strategy=epoch for 1; for more, eval_strategy=steps with eval_steps below 1, a "
       "share of all steps.",
       "evals_per_epoch=0"},
      {Status::refused,
       "Write save_strategy=epoch for 1; for more, save_strategy=steps with save_steps below 1, a "
       "share of all steps.",
       "saves_per_epoch=0"},
      {Status::later, "Stopping early is not in this version.",
       "early_stopping_patience early_stopping_steps"},
      {Status::no_effect, "Checkpoints are written as save_strategy and save_steps say.",
       "save_first_step dynamic_checkpoint"},
      {Status::no_effect, "nan_policy says what happens when the loss goes wrong.",
       "loss_watchdog_threshold loss_watchdog_patience"},
  };
}

/// Other kinds of training, several processes.
std::vector<Peers> kind_peers() {
  return {
      {Status::later, "Preference and reward training are not in this version.",
       "rl reward_model process_reward_model num_labels ref_model ebft"},
      {Status::no_effect,
       "It belongs to preference or reward training, which is not in this version.",
       "trl vllm rl_beta center_rewards_coefficient dpo_beta dpo_use_weighting "
       "dpo_label_smoothing=0.0 dpo_use_liger_kernel dpo_padding_free dpo_loss_type "
       "dpo_loss_weights dpo_norm_loss dpo_use_logits_to_keep dpo_generate_during_eval "
       "precompute_ref_log_probs orpo_alpha rpo_alpha simpo_gamma=0.5 cpo_alpha "
       "kto_desirable_weight kto_undesirable_weight kto_chosen_weight=1.0 "
       "kto_rejected_weight=1.0 pref_beta=0.1 pref_ftx=0.0 pref_bco_weight=0.0 "
       "pref_loss=sigmoid ppo_buffer_size=1 ppo_epochs=4 ppo_score_norm ppo_target=6.0 "
       "ppo_whiten_rewards ref_model_adapters ref_model_quantization_bit "
       "reward_model_adapters reward_model_quantization_bit reward_model_type=lora ld_alpha"},
      {Status::no_effect,
       "Images, video and sound are not read; a model that needs them is refused.",
       "image_size image_resize_algorithm role_boundaries freeze_mm_modules "
       "freeze_vision_tower=true freeze_multi_modal_projector=true freeze_language_model "
       "image_max_pixels=589824 image_min_pixels=1024 image_do_pan_and_scan crop_to_patches "
       "video_max_pixels=65536 video_min_pixels=256 video_fps=2.0 video_maxlen=128 "
       "use_audio_in_video audio_sampling_rate=16000"},
      {Status::no_effect, "Mixture-of-experts models are not in this version.",
       "experts_implementation llama4_linearized_experts moe_grouped_gemm "
       "moe_token_dispatcher_type"},
      {Status::later, "Training over several processes is not in this version.",
       "dp_shard_size=1 dp_replicate_size=1 sequence_parallel_degree=1 use_ray use_mca "
       "use_megatron_bridge use_hyper_parallel use_kt sequence_parallel "
       "tensor_model_parallel_size=1 pipeline_model_parallel_size=1 "
       "expert_model_parallel_size=1 virtual_pipeline_model_parallel_size"},
      {Status::no_effect, "One process trains.",
       "ddp fsdp_version fsdp_final_state_dict_type heads_k_stride ring_attn_func world_size "
       "ray_run_name ray_num_workers=1 ray_init_kwargs resources_per_worker master_addr "
       "master_port megatron_bridge_args hyper_parallel_args hyper_parallel_cp_size=1 "
       "overlap_grad_reduce overlap_param_gather account_for_embedding_in_pipeline_split "
       "account_for_loss_in_pipeline_split megatron_pretrained_checkpoint extra_config "
       "kt_config kt_cpu_activation kt_weight_path kt_non_expert_weight_path "
       "kt_expert_checkpoint_path kt_use_lora_experts kt_lora_expert_num "
       "kt_lora_expert_intermediate_size"},
  };
}

/// Trackers, evaluation, generation.
std::vector<Peers> talk_peers() {
  return {
      {Status::later,
       "Trackers are not in this version; output_dir/metrics.jsonl is always written.",
       "use_wandb use_mlflow use_comet use_trackio use_tensorboard use_otel_metrics "
       "use_swanlab"},
      {Status::no_effect, "It belongs to a tracker, of which there are none yet.",
       "wandb_entity wandb_log_model wandb_mode wandb_run_id wandb_watch "
       "mlflow_experiment_name mlflow_run_name mlflow_tracking_uri hf_mlflow_log_artifacts "
       "comet_api_key comet_workspace comet_project_name comet_experiment_key comet_mode "
       "comet_online comet_experiment_config trackio_project_name trackio_run_name "
       "otel_metrics_host=localhost otel_metrics_port=8000 swanlab_project=llamafactory "
       "swanlab_workspace swanlab_run_name swanlab_mode=cloud swanlab_api_key swanlab_logdir "
       "swanlab_lark_webhook_url swanlab_lark_secret"},
      {Status::no_effect, "metrics.jsonl has every step, with its tokens, times and memory.",
       "include_tokens_per_second include_tkps=true include_effective_tokens_per_second "
       "plot_loss print_param_status profiler_steps profiler_steps_start=0 "
       "enable_torch_profiler profiler_output_dir profiler_wait_steps=1 "
       "profiler_warmup_steps=1 profiler_active_steps=1 profiler_repeat=1 "
       "profiler_record_shapes=true profiler_profile_memory=true profiler_with_stack=true "
       "profile_modules"},
      {Status::no_effect, "snug uploads nothing, and downloads nothing.",
       "push_dataset_to_hub hf_hub_token ms_hub_token om_hub_token"},
      {Status::later, "Evaluation gives the loss; other metrics are not in this version.",
       "do_bench_eval do_causal_lm_eval compute_accuracy"},
      {Status::no_effect, "It belongs to an evaluation that is not in this version.",
       "bench_dataset bench_split eval_causal_lm_metrics eval_max_new_tokens eval_table_size "
       "eval_num_beams task task_dir=evaluation lang=en n_shot=5 save_dir"},
      {Status::later, "Text is drawn by temperature and top_p; other ways are not in this version.",
       "top_k num_beams=1 repetition_penalty=1.0 length_penalty=1.0 generate_samples"},
      {Status::no_effect,
       "It belongs to generating while training, or to another program's inference.",
       "num_generation_samples=3 generation_max_new_tokens=50 generation_temperature=0.7 "
       "generation_top_p generation_top_k generation_prompt_ratio=0.5 "
       "generation_do_sample=true skip_special_tokens=true infer_backend=huggingface "
       "use_kv_cache=true gradio_title gradio_share gradio_server_name gradio_server_port "
       "gradio_max_new_tokens gradio_temperature vllm_maxlen=4096 vllm_gpu_util=0.7 "
       "vllm_enforce_eager vllm_max_lora_rank=32 vllm_config sglang_maxlen=4096 "
       "sglang_mem_fraction=0.7 sglang_tp_size=-1 sglang_config sglang_lora_backend=triton"},
      {Status::refused, "snug runs no code but its own.", "plugins trainer_cls"},
      {Status::no_effect, "Every key is checked, always.", "strict axolotl_config_path"},
      {Status::no_effect, "It belongs to a technique that is not in this version.",
       "pose_max_context_len pose_num_chunks pose_split_on_token_ids"},
  };
}

void append(const Peers& peers, std::vector<Row>& rows) {
  std::string_view rest = peers.names;
  while (!rest.empty()) {
    const std::string_view name = rest.substr(0, rest.find(' '));
    rest.remove_prefix(std::min(name.size() + 1, rest.size()));
    const std::size_t equals = std::min(name.find('='), name.size());
    Row& row = rows.emplace_back();
    row.key = name.substr(0, equals);
    row.status = peers.status;
    row.sentence = peers.sentence;
    if (equals < name.size()) row.inert = {name.substr(equals + 1)};
  }
}

}  // namespace

std::vector<Row> peers_rows() {
  std::vector<Row> rows;
  for (const auto& part : {data_peers(), model_peers(), adapter_peers(), schedule_peers(),
                           kind_peers(), talk_peers()}) {
    for (const Peers& peers : part) append(peers, rows);
  }
  return rows;
}

}  // namespace snug
