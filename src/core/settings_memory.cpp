#include "core/settings_field.h"

namespace snug {
namespace {

/// No process is smaller: a number below it was meant in another unit.
constexpr Range kAtLeastOneMebibyte = {1048576};

}  // namespace

std::vector<Row> memory_rows() {
  return {
      {.key = "activation_checkpointing",
       .group = Group::memory,
       .field = field(&Settings::recompute),
       .initial = "auto",
       .sentence =
           "What is computed again in backward instead of kept. auto: the cheapest that fits; "
           "true: every block; cheap: norms, activations and casts; every:K: one block in K; "
           "segments:K: K stretches of blocks, in backward first the inputs of a stretch's blocks "
           "and then each block again; keep_attention: every block but attention's output; sqrt: "
           "about sqrt(layers) segments; SIZE: below so many bytes. Results are the same bits.",
       .peer = "null",
       .why = "the plan takes it where it is needed, and as little as is needed",
       .aliases = {"gradient_checkpointing",
                   "recompute",
                   "grad_checkpoint",
                   "enable_activation_checkpointing",
                   {"disable_gradient_checkpointing", {{"true", "false"}, {"false", "auto"}}}},
       .refused = {{{"offload", "offload_disk", "unsloth"},
                    "activations outside the device's memory are not in this version"}},
       .only_with = always(),
       .resume = OnResume::free},
      {.key = "loss_chunk_bytes",
       .group = Group::memory,
       .field = field(&Settings::loss, &LossOptions::chunk, kNotNegative),
       .initial = "32MiB",
       .sentence = "The head and the loss are computed in tiles of rows and classes whose logits "
                   "take at most so many bytes; 0: all at once.",
       .only_with = always(),
       .resume = OnResume::fixed},
      {.key = "mlp_chunks",
       .group = Group::memory,
       .field = field(&Settings::mlp_chunks, &MlpChunkOptions::count, Range{1, 1024}),
       .initial = "1",
       .sentence =
           "Each layer's MLP is computed in so many tiles of a micro-batch's tokens, so that "
           "its wide values exist for one tile at a time: in forward where they are "
           "recomputed, and in backward. Only the order of weight gradients' sums changes.",
       .aliases = {{"tiled_mlp", {{"true", "8"}, {"false", "1"}}}},
       .only_with = always(),
       .resume = OnResume::fixed},
      {.key = "update_in_backward",
       .group = Group::memory,
       .field = field(&Settings::update_in_backward, &UpdateInBackwardOptions::on),
       .initial = "false",
       .sentence = "Each weight is updated as soon as its gradient is complete, so that gradients "
                   "of about one layer exist at a time. Needs max_grad_norm=0 and one micro-batch "
                   "a step; the results are the same bits.",
       .aliases = {"optimizer_in_bwd"},
       .only_with = always(),
       .resume = OnResume::free},
      {.key = "device_memory",
       .group = Group::memory,
       .field = field(&Settings::device, &DeviceSettings::memory, "auto", kAtLeastOneMebibyte),
       .initial = "auto",
       .sentence =
           "All that the process may use: 8GB is decimal, 8GiB binary. auto on the CPU: 0.9 "
           "of what is available, the control group's limit included; on a card: all of its "
           "memory.",
       .only_with = always(),
       .resume = OnResume::free},
      {.key = "device",
       .group = Group::device,
       .field = field(&Settings::device, &DeviceSettings::kind),
       .initial = "auto",
       .sentence = "What the step is compiled for; auto: the CPU, or cuda where device_profile is "
                   "set; reference is the slow specification of every operation.",
       .aliases = {{"use_cpu", {{"true", "cpu"}, {"false", "auto"}}}},
       .refused = {{{"mps", "metal", "xpu", "npu", "hpu", "tpu", "rocm", "hip", "vulkan"},
                    "snug runs on x86-64 CPUs and NVIDIA cards"}},
       .only_with = always(),
       .resume = OnResume::free},
      {.key = "device_profile",
       .group = Group::device,
       .field = field(&Settings::device, &DeviceSettings::profile, "auto"),
       .initial = "auto",
       .sentence =
           "The NVIDIA card that device=cuda plans for, by name: rtx4090, a100-80, h100 and "
           "others; plan needs no such card. auto: the one in this machine.",
       .only_with = always(),
       .resume = OnResume::free},
      {.key = "cuda_graphs",
       .group = Group::device,
       .field = field(&Settings::device, &DeviceSettings::graphs),
       .initial = "false",
       .sentence = "On a card each program is remembered as one CUDA graph and replayed: less work "
                   "for the CPU, the same bits, some memory outside the plan.",
       .only_with =
           std::vector<Need>{{.any = {{"device", {"cuda"}}, {"device_profile", {"auto"}, true}}}},
       .resume = OnResume::free},
      {.key = "instruction_set",
       .group = Group::device,
       .field = field(&Settings::device, &DeviceSettings::instruction_set),
       .initial = "auto",
       .sentence = "The widest CPU instructions to use; auto: all that the CPU has.",
       .only_with = std::vector<Need>{{.any = {{"device", {"auto", "cpu"}}}},
                                      {.any = {{"device_profile", {"auto"}}}}},
       .resume = OnResume::free},
      {.key = "threads",
       .group = Group::device,
       .field = field(&Settings::device, &DeviceSettings::threads, "auto", Range{1, 4096}),
       .initial = "auto",
       .sentence =
           "CPU threads; results do not depend on it. auto: the affinity mask or the control "
           "group's quota, whichever is less.",
       .only_with = always(),
       .resume = OnResume::free},
  };
}

}  // namespace snug
