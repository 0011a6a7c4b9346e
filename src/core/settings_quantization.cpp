// Quantised base weights.
#include "core/settings_field.h"

namespace snug {

std::vector<Row> quantization_rows() {
  return {
      {.key = "load_in_4bit",
       .group = Group::precision,
       .field = field(&Settings::quantization, &QuantizationOptions::load_in_4bit),
       .initial = "false",
       .sentence =
           "Linear weights of the layers, which must be frozen (QLoRA), are stored in 4 bits with "
           "an fp32 scale for each 64 of them (4.5 bits a weight), quantised while loading, and "
           "dequantised inside each product. The head and the embedding stay as they are. "
           "quantization_bit=4 means the same.",
       .peer = "false",
       .aliases = {"quantize_base", {"quantization_bit", {{"4", "true"}}}},
       .refused = {{{"8"}, "8 bits are load_in_8bit=true"}},
       .only_with = always(),
       .resume = OnResume::fixed},
      {.key = "load_in_8bit",
       .group = Group::precision,
       .field = field(&Settings::quantization, &QuantizationOptions::load_in_8bit),
       .initial = "false",
       .sentence = "The same in 8 bits, with an fp32 scale for each row.",
       .peer = "false",
       .only_with = always(),
       .resume = OnResume::fixed},
      {.key = "bnb_4bit_quant_type",
       .group = Group::precision,
       .field = field(&Settings::quantization, &QuantizationOptions::type),
       .initial = "nf4",
       .sentence = "The 16 values of 4-bit weights: nf4, quantiles of the normal distribution; "
                   "fp4 only as read from a folder that has it.",
       .peer = "nf4",
       .aliases = {"quantization_type"},
       .only_with = std::vector<Need>{{.any = {{"load_in_4bit", {"true"}}}}},
       .resume = OnResume::fixed},
      {.key = "bnb_4bit_use_double_quant",
       .group = Group::precision,
       .field = field(&Settings::quantization, &QuantizationOptions::double_quant),
       .initial = "false",
       .sentence = "Stores the scales of 4-bit weights in 8 bits (4.13 bits a weight).",
       .peer = "false",
       .aliases = {"use_bnb_nested_quant", "double_quantization"},
       .only_with = std::vector<Need>{{.any = {{"load_in_4bit", {"true"}}}}},
       .resume = OnResume::fixed},
      {.key = "llm_int8_skip_modules",
       .group = Group::precision,
       .field = field(&Settings::quantization, &QuantizationOptions::skip),
       .initial = "[]",
       .sentence = "Modules whose weights are not quantised, by whole names or their beginning or "
                   "end: down_proj, model.layers.0.",
       .peer = "null",
       .only_with =
           std::vector<Need>{{.any = {{"load_in_4bit", {"true"}}, {"load_in_8bit", {"true"}}}}},
       .resume = OnResume::fixed},
  };
}

}  // namespace snug
