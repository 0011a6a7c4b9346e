#include "core/settings_field.h"

namespace snug {

std::vector<Row> model_rows() {
  return {
      {.key = "model_name_or_path",
       .group = Group::model,
       .field = field(&Settings::model, &ModelSettings::name_or_path),
       .sentence = "A model's folder, a hub id in the local Hugging Face cache, or shape:NAME (a "
                   "published shape without weights, for plan, bench and init=random).",
       .peer = "null",
       .aliases = {"model", "base_model", "checkpointer.checkpoint_dir"},
       .inert = {"null"},
       .only_with = always(),
       .resume = OnResume::free},
      {.key = "init",
       .group = Group::model,
       .field = field(&Settings::model, &ModelSettings::init),
       .initial = "pretrained",
       .sentence = "pretrained loads the model's weights; random draws them from `seed`, for "
                   "training from nothing.",
       .refused =
           {{{"pissa", "loftq", "olora", "eva"},
             "adapters start from a uniform A and B = 0; other starts are not in this version"}},
       .only_with = always(),
       .resume = OnResume::free},
      {.key = "bf16",
       .group = Group::precision,
       .field = field(&Settings::precision, &PrecisionOptions::bf16),
       .initial = "true",
       .sentence =
           "Weights, activations and matrix products in bfloat16; false: all in fp32. Sums, "
           "norms, softmax, loss and optimizer arithmetic are fp32 either way.",
       .peer = "false",
       .why = "half the weights' and activations' memory, and faster products",
       .aliases = {{"fp32", {{"true", "false"}, {"false", "true"}}},
                   {"float32", {{"true", "false"}, {"false", "true"}}},
                   "bf16.enabled",
                   "bfloat16"},
       .inert = {"auto"},
       .refused = {{{"fp16", "float16"}, "write fp16=true"}},
       .only_with = always(),
       .resume = OnResume::fixed},
      {.key = "fp16",
       .group = Group::precision,
       .field = field(&Settings::precision, &PrecisionOptions::fp16),
       .initial = "false",
       .sentence =
           "Weights, activations and matrix products in IEEE half precision, in bf16's place, with "
           "an fp32 master, fp32 gradients and PyTorch's dynamic loss scale; steps whose gradients "
           "overflow are skipped and counted. bf16 needs none of that.",
       .peer = "false",
       .aliases = {"fp16.enabled", "float16"},
       .inert = {"auto"},
       .only_with = always(),
       .resume = OnResume::fixed},
      {.key = "master_weights",
       .group = Group::precision,
       .field = field(&Settings::precision, &PrecisionOptions::master_weights),
       .initial = "fp32",
       .sentence =
           "With bf16: fp32 keeps an fp32 copy of every trained weight for the optimizer (4 "
           "bytes a parameter); none keeps bf16 only and rounds updates stochastically.",
       .aliases = {{"pure_bf16", {{"true", "none"}, {"false", "fp32"}}}},
       .only_with = std::vector<Need>{{.any = {{"bf16", {"true"}}, {"fp16", {"true"}}}}},
       .resume = OnResume::fixed},
      {.key = "gradient_dtype",
       .group = Group::precision,
       .field = field(&Settings::precision, &PrecisionOptions::gradient_dtype),
       .initial = "auto",
       .sentence = "Type of the gradients: auto is the weights' (bf16 when bf16, else fp32). Sums "
                   "into bf16 gradients are made in fp32 and rounded stochastically.",
       .only_with = std::vector<Need>{{.any = {{"bf16", {"true"}}, {"fp16", {"true"}}}}},
       .resume = OnResume::fixed},
  };
}

}  // namespace snug
