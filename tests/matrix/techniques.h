#pragma once
// The techniques of the matrix: what switches each on, what it declares, how far its arithmetic may
// carry.

#include <cstdint>
#include <string>
#include <vector>

#include "passes/pass.h"

namespace snug::testing {

// What is trained, in elements: all, or adapters of rank 16 (in + out of each matrix by the rank).
inline constexpr double kLayerElements = 3 * (4096 + 2048 + 2048 + 4096 + 3 * 8192 + 2 * 64);
inline constexpr double kModelElements = kLayerElements + 2 * 97 * 64 + 64;
inline constexpr double kAdapterElements = 3 * 16 * (128 + 96 + 96 + 128 + 3 * 192);
inline constexpr double kHeadAdapterElements = 16 * (3 * (128 + 96 + 192) + 64 + 97);

struct Technique {
  const char* name;
  std::vector<const char*> settings;  ///< key=value
  Equality equality;
  const char* kind;  ///< of two techniques of one kind only one can be on
  /// How far a difference in the last place of a sum may move the loss within the run, as a share
  /// of it: a sign or a code may flip.
  double noise = 1e-5;
  /// How far the loss may be from the reference run's, as a share of what that run moves, beside
  /// what it is off by before the first update.
  double curve = 0;
  /// The technique whose run alone is the reference of `curve`; nullptr: the plain run.
  const char* reference = nullptr;
  /// How far one rounding of a stored gradient or weight carries it, as a share of it.
  double rounding = 0;
  /// How many parts of a gradient are stored and added up one by one.
  int parts = 1;
  double trained = kModelElements;
};

/// 8 rows of at most 30 tokens, fp32 logits of 97 classes, 8 KiB at a time.
inline constexpr int kLossChunks = (8 * 30 * 97 * 4 + 8191) / 8192;

inline std::vector<Technique> techniques() {
  using enum Equality;
  return {
      {"recompute cheap", {"activation_checkpointing=cheap"}, exact, "recompute"},
      {"recompute all", {"activation_checkpointing=true"}, exact, "recompute"},
      {"recompute every:2", {"activation_checkpointing=every:2"}, exact, "recompute"},
      {"recompute segments:2", {"activation_checkpointing=segments:2"}, exact, "recompute"},
      {"keep attention", {"activation_checkpointing=keep_attention"}, exact, "recompute"},
      {"recompute limit", {"activation_checkpointing=1600KiB"}, exact, "recompute"},
      {"mlp chunks", {"mlp_chunks=3"}, reordered, "mlp", 1e-5, 0, nullptr, 0, 3},
      // All 8 rows in 4 sequences of 2, so that a step sees the same documents.
      {"packing", {"packing=true", "max_length=40", "global_batch_size=4"}, reordered, "rows"},
      {"accumulate 4",
       {"gradient_accumulation_steps=4"},
       reordered,
       "batch",
       1e-5,
       0,
       nullptr,
       0,
       4},
      {"loss chunks",
       {"loss_chunk_bytes=8KiB"},
       reordered,
       "loss",
       1e-5,
       0,
       nullptr,
       0,
       kLossChunks},
      {"bf16 + master", {"bf16=true"}, changed, "precision", 1e-5, 0.1, nullptr, 0x1p-8},
      {"bf16 no master",
       {"bf16=true", "master_weights=none"},
       changed,
       "precision",
       1e-5,
       0.2,
       nullptr,
       0x1p-8},
      {"fp16", {"fp16=true"}, changed, "precision", 1e-5, 0.1, nullptr, 0x1p-11},
      {"bf16 fp32 gradients",
       {"bf16=true", "gradient_dtype=fp32"},
       changed,
       "precision",
       1e-5,
       0.1,
       nullptr,
       0x1p-8},
      {"update in backward", {"update_in_backward=true"}, exact, "update in backward"},
      {"adamw 8-bit", {"optim=adamw_8bit"}, changed, "optimizer", 2e-2, 0.1},
      {"adamw bnb 8-bit", {"optim=adamw_bnb_8bit"}, changed, "optimizer", 2e-2, 0.1},
      {"adafactor", {"optim=adafactor"}, changed, "optimizer", 2e-2, 0.5},
      {"adafactor torch",
       {"optim=adafactor_torch", "learning_rate=3e-2"},
       changed,
       "optimizer",
       2e-2,
       0.5},
      {"lion", {"optim=lion_32bit", "learning_rate=1e-3"}, changed, "optimizer", 5e-2, 0.5},
      {"lion 8-bit", {"optim=lion_8bit", "learning_rate=1e-3"}, changed, "optimizer", 5e-2, 0.5},
      {"sgd momentum",
       {"optim=sgd", "optim_args=momentum=0.9", "learning_rate=0.1"},
       changed,
       "optimizer",
       2e-2,
       0.9},
      {"LoRA",
       {"finetuning_type=lora", "lora_r=16", "learning_rate=1e-2"},
       changed,
       "tuning",
       1e-5,
       1,
       nullptr,
       0,
       1,
       kAdapterElements},
      {"rsLoRA",
       {"finetuning_type=lora", "lora_r=16", "use_rslora=true", "learning_rate=1e-2"},
       changed,
       "tuning",
       1e-5,
       1,
       nullptr,
       0,
       1,
       kAdapterElements},
      {"DoRA",
       {"finetuning_type=lora", "lora_r=16", "use_dora=true", "learning_rate=1e-2"},
       changed,
       "tuning",
       1e-5,
       1,
       nullptr,
       0,
       1,
       kAdapterElements},
      {"LoRA, dropout, head saved",
       {"finetuning_type=lora", "lora_r=16", "lora_dropout=0.1", "modules_to_save=lm_head",
        "learning_rate=1e-2"},
       changed,
       "tuning",
       1e-5,
       1,
       nullptr,
       0,
       1,
       kAdapterElements},
      {"LoRA on the head too",
       {"finetuning_type=lora", "lora_r=16", "lora_target_modules=q_proj,v_proj,down_proj,lm_head",
        "learning_rate=1e-2"},
       changed,
       "tuning",
       1e-5,
       1,
       nullptr,
       0,
       1,
       kHeadAdapterElements},
      {"layers only",
       {"unfrozen_parameters=layers"},
       changed,
       "freeze",
       1e-5,
       1,
       nullptr,
       0,
       1,
       kLayerElements},
      // What the codes of the base cost beside the same adapters on the base itself: they are off
      // by 9.2 % of the weights' size in NF4.
      {"QLoRA NF4",
       {"finetuning_type=lora", "lora_r=16", "load_in_4bit=true", "bnb_4bit_use_double_quant=true",
        "learning_rate=1e-2"},
       changed,
       "base",
       1e-5,
       0.092,
       "LoRA",
       0,
       1,
       kAdapterElements},
      {"LoRA on an int8 base",
       {"finetuning_type=lora", "lora_r=16", "load_in_8bit=true", "learning_rate=1e-2"},
       changed,
       "base",
       1e-5,
       0.05,
       "LoRA",
       0,
       1,
       kAdapterElements},
  };
}

}  // namespace snug::testing
