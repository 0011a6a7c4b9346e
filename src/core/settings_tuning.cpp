// What is trained: all of the model, a part of it, or adapters beside it.
#include "core/settings_field.h"

namespace snug {
namespace {

constexpr Range kRate = {0, 0.999, false};

std::vector<Need> with_lora() { return {{.any = {{"finetuning_type", {"lora"}}}, .strict = true}}; }

std::vector<Need> with_freeze() {
  return {{.any = {{"finetuning_type", {"freeze"}}}, .strict = true}};
}

std::vector<Row> lora_rows() {
  return {
      {.key = "lora_r",
       .group = Group::tuning,
       .field = field(&Settings::lora, &LoraOptions::rank, kAtLeastOne),
       .initial = "16",
       .sentence = "Rank of the adapters.",
       .peer = "16",
       .aliases = {"lora_rank", "lora_parameters.rank"},
       .only_with = with_lora(),
       .resume = OnResume::fixed},
      {.key = "lora_alpha",
       .group = Group::tuning,
       .field = field(&Settings::lora, &LoraOptions::alpha, "auto", kPositive),
       .initial = "auto",
       .sentence = "An adapter's product is scaled by lora_alpha / lora_r. auto: 2 lora_r.",
       .peer = "32",
       .why = "follows lora_r",
       .only_with = with_lora(),
       .resume = OnResume::fixed},
      {.key = "lora_dropout",
       .group = Group::tuning,
       .field = field(&Settings::lora, &LoraOptions::dropout, kRate),
       .initial = "0",
       .sentence = "Share of the adapters' inputs that is dropped while training.",
       .peer = "0.05",
       .why = "PEFT's value; dropping costs a copy of every input",
       .only_with = with_lora(),
       .resume = OnResume::fixed},
      {.key = "lora_target_modules",
       .group = Group::tuning,
       .field = field(&Settings::lora, &LoraOptions::targets),
       .initial = "all-linear",
       .sentence = "Linear layers that get an adapter: names or their ends (q_proj), regular "
                   "expressions of whole names, or all-linear: all but the head.",
       .peer = "null",
       .why = "what recipes use",
       .aliases = {{"lora_target", {{"all", "all-linear"}}},
                   {"lora_target_linear", {{"true", "all-linear"}, {"false", "null"}}},
                   "target_modules",
                   "lora_attn_modules"},
       .values = {{"all", "all-linear"}},
       .only_with = with_lora(),
       .resume = OnResume::fixed},
      {.key = "modules_to_save",
       .group = Group::tuning,
       .field = field(&Settings::lora, &LoraOptions::modules_to_save),
       .initial = "[]",
       .sentence =
           "Modules trained in full beside the adapters and saved with them, by the ends of "
           "their names: embed_tokens, lm_head, norm.",
       .peer = "null",
       .aliases = {"lora_modules_to_save", "additional_target"},
       .only_with = with_lora(),
       .resume = OnResume::fixed},
      {.key = "use_rslora",
       .group = Group::tuning,
       .field = field(&Settings::lora, &LoraOptions::rslora),
       .initial = "false",
       .sentence = "Scales by lora_alpha / sqrt(lora_r).",
       .peer = "false",
       .aliases = {"peft_use_rslora"},
       .only_with = with_lora(),
       .resume = OnResume::fixed},
      {.key = "use_dora",
       .group = Group::tuning,
       .field = field(&Settings::lora, &LoraOptions::dora),
       .initial = "false",
       .sentence = "DoRA: the norms of a layer's rows are trained apart from their directions.",
       .peer = "false",
       .aliases = {"peft_use_dora"},
       .only_with = with_lora(),
       .resume = OnResume::fixed},
      {.key = "rank_pattern",
       .group = Group::tuning,
       .field = field(&Settings::lora, &LoraOptions::rank_pattern),
       .initial = "{}",
       .sentence = "Ranks of single layers, by name, end of name or regular expression; the first "
                   "that matches counts.",
       .aliases = {"lora_rank_pattern"},
       .only_with = with_lora(),
       .resume = OnResume::fixed},
      {.key = "alpha_pattern",
       .group = Group::tuning,
       .field = field(&Settings::lora, &LoraOptions::alpha_pattern),
       .initial = "{}",
       .sentence = "The same for lora_alpha.",
       .aliases = {"lora_alpha_pattern"},
       .only_with = with_lora(),
       .resume = OnResume::fixed},
      {.key = "adapter_name_or_path",
       .group = Group::tuning,
       .field = field(&Settings::model, &ModelSettings::adapter),
       .initial = "",
       .sentence = "A PEFT folder: training goes on from its adapter, with its rank and targets. "
                   "Its config names the base when model_name_or_path is not set.",
       .aliases = {"lora_model_dir", "resume_adapter_file"},
       .only_with = always(),
       .resume = OnResume::free},
  };
}

std::vector<Row> freeze_rows() {
  return {
      {.key = "unfrozen_parameters",
       .group = Group::tuning,
       .field = field(&Settings::freeze, &FreezeOptions::unfrozen),
       .initial = "[]",
       .sentence = "Regular expressions: parameters in whose name one is found are trained, all "
                   "others are frozen; with adapters, of theirs. Empty: all are trained.",
       .aliases = {"trainable_parameters"},
       .only_with = always(),
       .resume = OnResume::fixed},
      {.key = "freeze_trainable_layers",
       .group = Group::tuning,
       .field = field(&Settings::freeze, &FreezeOptions::layers),
       .initial = "2",
       .sentence = "With finetuning_type=freeze: the last N layers are trained, with -N the first "
                   "N.",
       .only_with = with_freeze(),
       .resume = OnResume::fixed},
      {.key = "freeze_trainable_modules",
       .group = Group::tuning,
       .field = field(&Settings::freeze, &FreezeOptions::modules),
       .initial = "all",
       .sentence = "With finetuning_type=freeze: what is trained of those layers, by names such "
                   "as mlp and self_attn; all: everything.",
       .aliases = {"name_module_trainable"},
       .only_with = with_freeze(),
       .resume = OnResume::fixed},
      {.key = "freeze_extra_modules",
       .group = Group::tuning,
       .field = field(&Settings::freeze, &FreezeOptions::extra_modules),
       .initial = "[]",
       .sentence = "With finetuning_type=freeze: what is trained outside the layers, by names such "
                   "as embed_tokens, norm and lm_head.",
       .only_with = with_freeze(),
       .resume = OnResume::fixed},
  };
}

}  // namespace

std::vector<Row> tuning_rows() {
  std::vector<Row> rows = {
      {.key = "finetuning_type",
       .group = Group::tuning,
       .field = field(&Settings::model, &ModelSettings::finetuning),
       .initial = "full",
       .sentence =
           "What is trained: full: every weight; freeze: some layers; lora: adapters beside "
           "frozen weights. qlora means lora with load_in_4bit=true.",
       .aliases = {"fine_tune_type",
                   "adapter",
                   {"use_peft", {{"true", "lora"}, {"false", "full"}}}},
       .refused = {{{"dora"}, "write finetuning_type=lora use_dora=true"}},
       .only_with = always(),
       .resume = OnResume::fixed},
  };
  for (auto part : {lora_rows(), freeze_rows()}) {
    for (Row& row : part) rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace snug
