#include "core/settings_field.h"

namespace snug {
namespace {

std::vector<Row> batch_rows() {
  return {
      {.key = "global_batch_size",
       .group = Group::batch,
       .field = field(&Settings::batch, &BatchSettings::global_batch_size, "auto", kAtLeastOne),
       .initial = "auto",
       .sentence =
           "Rows a step: micro-batch times accumulation equals it exactly. auto: 16, or the "
           "product of the two keys below when they are set.",
       .aliases = {"train_batch_size"},
       .only_with = always(),
       .resume = OnResume::in_state},
      {.key = "per_device_train_batch_size",
       .group = Group::batch,
       .field = field(&Settings::batch, &BatchSettings::per_device_train_batch_size, "auto",
                      kAtLeastOne),
       .initial = "auto",
       .sentence = "Rows of a micro-batch. auto: the fastest that fits at an unchanged "
                   "global_batch_size.",
       .peer = "8",
       .why = "the plan knows what fits; the step stays the same",
       .aliases = {"micro_batch_size", "batch_size", "train_micro_batch_size_per_gpu"},
       .only_with = always(),
       .resume = OnResume::in_state},
      {.key = "gradient_accumulation_steps",
       .group = Group::batch,
       .field = field(&Settings::batch, &BatchSettings::gradient_accumulation_steps, "auto",
                      kAtLeastOne),
       .initial = "auto",
       .sentence = "Micro-batches a step, each token weighing the same. auto: what "
                   "global_batch_size leaves; 1 when only the micro-batch is set.",
       .peer = "1",
       .why = "follows from global_batch_size",
       .aliases = {"grad_accumulation_steps"},
       .only_with = always(),
       .resume = OnResume::in_state},
  };
}

std::vector<Row> schedule_rows() {
  return {
      {.key = "learning_rate",
       .group = Group::schedule,
       .field = field(&Settings::schedule, &ScheduleSettings::learning_rate, kNotNegative),
       .initial = {"2e-5", "2e-4", "3e-4"},
       .sentence = "Peak of the learning rate.",
       .peer = "5e-05",
       .why = "TRL's value for fine-tuning; adapters and random weights need more",
       .aliases = {"lr", "optimizer.lr", "optimizer.params.lr"},
       .only_with = always(),
       .resume = OnResume::fixed},
      {.key = "lr_scheduler_type",
       .group = Group::schedule,
       .field = field(&Settings::schedule, &ScheduleSettings::type),
       .initial = "cosine",
       .sentence = "Course of the learning rate after the warm-up, as in transformers.",
       .peer = "linear",
       .why = "what fine-tuning recipes use",
       .aliases = {"lr_scheduler", "lr_schedule", "lr_scheduler._component_"},
       .refused = {{{"reduce_lr_on_plateau", "greedy"},
                    "schedules that follow the loss are not in this version"}},
       .only_with = always(),
       .resume = OnResume::fixed},
      {.key = "lr_scheduler_kwargs",
       .group = Group::schedule,
       .field = field(&Settings::schedule, &ScheduleSettings::arguments),
       .initial = "{}",
       .sentence =
           "The schedule's own numbers, as in transformers: num_cycles, min_lr, min_lr_rate, "
           "warmup_lr_rate, power, lr_end, timescale, num_decay_steps, num_stable_steps, "
           "min_lr_ratio, warmup_type, decay_type.",
       .peer = "null",
       .only_with = std::vector<Need>{{.any = {{"lr_scheduler_type",
                                                {"linear", "constant", "constant_with_warmup"},
                                                true}}}},
       .resume = OnResume::fixed},
      {.key = "warmup_steps",
       .group = Group::schedule,
       .field = field(&Settings::schedule, &ScheduleSettings::warmup_steps),
       .initial = "0.03",
       .sentence =
           "Steps, or below 1 the share of all steps (rounded up), in which the learning rate "
           "rises.",
       .peer = "0",
       .why = "Adam's first steps are its least certain ones",
       .aliases = {"warmup_ratio", "num_warmup_steps", "lr_scheduler.num_warmup_steps", "warmup"},
       .only_with = std::vector<Need>{{.any = {{"lr_scheduler_type", {"constant"}, true}}}},
       .resume = OnResume::fixed},
      {.key = "num_train_epochs",
       .group = Group::schedule,
       .field = field(&Settings::schedule, &ScheduleSettings::num_train_epochs, kPositive),
       .initial = "3",
       .sentence = "Passes over the rows; may be a fraction.",
       .peer = "3.0",
       .aliases = {"num_epochs", "epochs"},
       .only_with = std::vector<Need>{{.any = {{"max_steps", {"-1"}}}}},
       .resume = OnResume::free},
      {.key = "max_steps",
       .group = Group::schedule,
       .field = field(&Settings::schedule, &ScheduleSettings::max_steps, Range{-1}),
       .initial = "-1",
       .sentence = "Above 0: stops after so many steps, whatever the epochs say.",
       .peer = "-1",
       .aliases = {"iters"},
       .refused = {{{"0"}, "no step would be made; -1 leaves the length to num_train_epochs"}},
       .only_with = always(),
       .resume = OnResume::free},
  };
}

std::vector<Row> optimizer_rows() {
  const Range below_one{0, std::nextafter(1.0, 0.0), false};
  return {
      {.key = "optim",
       .group = Group::optimizer,
       .field = field(&Settings::optimizer, &OptimizerSettings::rule),
       .initial = "adamw_torch",
       .sentence =
           "The update rule. adamw_torch: PyTorch's AdamW; adamw_8bit: 8-bit moments, the second "
           "as its root, which is the better of the two; adamw_bnb_8bit: bitsandbytes' state; "
           "adafactor: as transformers' Trainer runs it, adafactor_torch: PyTorch's; lion_32bit, "
           "lion_8bit: Lion with adam_beta1 and adam_beta2; sgd: PyTorch's. 8-bit: tensors below "
           "4096 elements keep fp32 state.",
       .peer = "adamw_torch_fused",
       .why = "one and the same here",
       .aliases = {"optimizer", "optimizer._component_", "optimizer.type"},
       .refused =
           {{{"adamw_torch_8bit", "adamw_torch_4bit"},
             "torchao's formats are not in this version; adamw_8bit takes as much memory"},
            {{"paged_adamw_8bit", "paged_lion_8bit", "paged_ademamix_8bit", "paged_adamw_32bit",
              "paged_lion_32bit", "paged_ademamix_32bit"},
             "state outside the device's memory is not in this version"},
            {{"ademamix", "ademamix_8bit", "adagrad", "rmsprop", "rmsprop_bnb", "rmsprop_bnb_8bit",
              "rmsprop_bnb_32bit", "muon", "lomo", "adalomo", "grokadamw", "stable_adamw",
              "schedule_free_radam", "schedule_free_adamw", "schedule_free_sgd",
              "adamw_anyprecision"},
             "this rule is not in this version"},
            {{"galore_adamw", "galore_adamw_8bit", "galore_adafactor", "galore_adamw_layerwise",
              "galore_adamw_8bit_layerwise", "galore_adafactor_layerwise", "apollo_adamw",
              "apollo_adamw_layerwise"},
             "GaLore and APOLLO are not in this version"},
            {{"adamw_torch_xla", "adamw_torch_npu_fused"},
             "this names a device that snug does not have; adamw_torch is the same arithmetic"}},
       .only_with = always(),
       .resume = OnResume::fixed},
      {.key = "optim_args",
       .group = Group::optimizer,
       .field = field(&Settings::optimizer, &OptimizerSettings::arguments),
       .initial = "null",
       .sentence = "The rule's own arguments, as in transformers: momentum and nesterov of sgd; "
                   "clip_threshold, decay_rate and scale_parameter of adafactor.",
       .peer = "null",
       .only_with = always(),
       .resume = OnResume::fixed},
      {.key = "weight_decay",
       .group = Group::optimizer,
       .field = field(&Settings::optimizer, &OptimizerSettings::weight_decay, kNotNegative),
       .initial = {"0", "0", "0.1"},
       .sentence = "Weight decay, decoupled but in sgd; norms and biases are not decayed.",
       .peer = "0.0",
       .why = "pre-training needs it, fine-tuning does not",
       .aliases = {"optimizer.weight_decay", "optimizer.params.weight_decay"},
       .only_with = always(),
       .resume = OnResume::fixed},
      {.key = "adam_beta1",
       .group = Group::optimizer,
       .field = field(&Settings::optimizer, &OptimizerSettings::adam_beta1, below_one),
       .initial = "0.9",
       .sentence = "Decay of Adam's mean of gradients; Lion's weight of the old mean in an update.",
       .peer = "0.9",
       .only_with = std::vector<Need>{{.any = {{"optim",
                                                {"adamw_torch", "adamw_8bit", "adamw_bnb_8bit",
                                                 "lion_32bit", "lion_8bit"}}}}},
       .resume = OnResume::fixed},
      {.key = "adam_beta2",
       .group = Group::optimizer,
       .field = field(&Settings::optimizer, &OptimizerSettings::adam_beta2, below_one),
       .initial = "0.999",
       .sentence = "Decay of Adam's mean of squared gradients, of Lion's mean of gradients.",
       .peer = "0.999",
       .only_with = std::vector<Need>{{.any = {{"optim",
                                                {"adamw_torch", "adamw_8bit", "adamw_bnb_8bit",
                                                 "lion_32bit", "lion_8bit"}}}}},
       .resume = OnResume::fixed},
      {.key = "adam_epsilon",
       .group = Group::optimizer,
       .field = field(&Settings::optimizer, &OptimizerSettings::adam_epsilon, kPositive),
       .initial = "1e-8",
       .sentence = "Added to the root of Adam's second moment.",
       .peer = "1e-08",
       .only_with =
           std::vector<Need>{{.any = {{"optim", {"adamw_torch", "adamw_8bit", "adamw_bnb_8bit"}}}}},
       .resume = OnResume::fixed},
      {.key = "max_grad_norm",
       .group = Group::optimizer,
       .field = field(&Settings::optimizer, &OptimizerSettings::max_grad_norm, kNotNegative),
       .initial = "1",
       .sentence = "Gradients are scaled down to this global norm when above it; 0: never.",
       .peer = "1.0",
       .aliases = {"clip_grad_norm", "gradient_clipping"},
       .only_with = always(),
       .resume = OnResume::fixed},
      {.key = "seed",
       .group = Group::optimizer,
       .field = field(&Settings::run, &RunSettings::seed, kNotNegative),
       .initial = "42",
       .sentence = "Seed of everything that is random: the same seed gives the same bits.",
       .peer = "42",
       .aliases = {"random_seed"},
       .only_with = always(),
       .resume = OnResume::in_state},
      {.key = "nan_policy",
       .group = Group::optimizer,
       .field = field(&Settings::run, &RunSettings::nan_policy),
       .initial = "stop",
       .sentence = "When a loss or gradient is not finite: stop ends the run and keeps the last "
                   "checkpoint; skip leaves the weights as they were and goes on.",
       .only_with = always(),
       .resume = OnResume::free},
  };
}

}  // namespace

std::vector<Row> training_rows() {
  std::vector<Row> rows = batch_rows();
  for (auto part : {schedule_rows(), optimizer_rows()}) {
    for (Row& row : part) rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace snug
