// The texts of the errors that settings make: one test for each form.
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/settings_load.h"

namespace snug {
namespace {

std::string yaml_error(const std::string& text) {
  try {
    make_settings(parse_config(text, "config.yaml"));
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

std::string word_error(const std::string& key, const std::string& value) {
  try {
    const std::vector<Assignment> words = {from_command_line(key, value)};
    make_settings(words);
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

TEST(SettingsError, UnknownKeyNamesTheNearest) {
  EXPECT_EQ(yaml_error("# a\nmodel: m\n\ndata: d\n\n\nlearning_rte: 1\n"),
            "config.yaml:7: unknown key 'learning_rte'. Did you mean learning_rate?");
  EXPECT_EQ(word_error("micro_batchsize", "1"),
            "command line: unknown key 'micro_batchsize'. Did you mean "
            "per_device_train_batch_size?");
  EXPECT_EQ(word_error("xyzzy", "1"),
            "command line: unknown key 'xyzzy'. `snug help all` lists the keys.");
}

TEST(SettingsError, WrongValueSaysWhatIsExpected) {
  EXPECT_EQ(yaml_error("seed: 1\nlr: fast\n"),
            "config.yaml:2: learning_rate (written lr) is fast, expected a number of at least 0.");
  EXPECT_EQ(yaml_error("lr: nan\n"),
            "config.yaml:1: learning_rate (written lr) is nan, expected a number of at least 0.");
  EXPECT_EQ(yaml_error("max_steps: 1.5\n"),
            "config.yaml:1: max_steps is 1.5, expected a whole number of at least -1.");
  EXPECT_EQ(yaml_error("bf16: maybe\n"), "config.yaml:1: bf16 is maybe, expected true or false.");
  EXPECT_EQ(yaml_error("seed: [1, 2]\n"),
            "config.yaml:1: seed is [1, 2], expected a whole number of at least 0.");
  EXPECT_EQ(word_error("device_memory", "8G"),
            "command line: device_memory is 8G, expected a size such as 8GB or 8GiB of at least "
            "1MiB, or auto. Did you mean 8GiB (8,589,934,592 bytes) or 8GB (8,000,000,000 bytes)?");
  EXPECT_EQ(word_error("device_memory", "8"),
            "command line: device_memory is 8, expected a size such as 8GB or 8GiB of at least "
            "1MiB, or auto. A number alone counts bytes. Did you mean 8GiB?");
  EXPECT_EQ(word_error("max_steps", "0"),
            "command line: max_steps is 0: no step would be made; -1 leaves the length to "
            "num_train_epochs.");
  EXPECT_EQ(word_error("device", "mps"),
            "command line: device is mps: snug runs on x86-64 CPUs and NVIDIA cards.");
  EXPECT_EQ(yaml_error("data: [[1], a]\n"),
            "config.yaml:1: train_file (written data) is [[1], a], expected a list of plain "
            "values.");
  EXPECT_EQ(word_error("activation_checkpointing", "every:0"),
            "command line: activation_checkpointing is every:0, expected auto, false, true, cheap, "
            "every:K, segments:K, keep_attention, sqrt or a size such as 2GiB.");
  EXPECT_EQ(word_error("nan_policy", "skop"),
            "command line: nan_policy is skop, expected one of stop, skip. Did you mean stop?");
  EXPECT_EQ(word_error("top_p", "1.5"),
            "command line: top_p is 1.5, expected a number above 0 and at most 1.");
  EXPECT_EQ(word_error("warmup_steps", "1.5"),
            "command line: warmup_steps is 1.5, expected a whole number, or a share below 1.");
}

TEST(SettingsError, SchedulerArgumentsAreKnownByName) {
  EXPECT_EQ(yaml_error("lr_scheduler_kwargs: {num_cycle: 1}\n"),
            "config.yaml:1: lr_scheduler_kwargs has no 'num_cycle'. Did you mean num_cycles?");
  EXPECT_EQ(
      yaml_error("lr_scheduler_kwargs: {power: high}\n"),
      "config.yaml:1: lr_scheduler_kwargs is {power: high}, expected a map of numbers such as "
      "{min_lr_rate: 0.1}, warmup_type and decay_type linear, cosine or 1-sqrt.");
}

/// What check_settings says of a configuration: errors, then notes.
std::string checked(const std::string& yaml) {
  Settings settings = make_settings(parse_config(yaml, "c.yaml"));
  ErrorList errors;
  check_settings(settings, errors);
  for (const std::string& note : settings.notes) errors.add("note: " + note);
  try {
    errors.raise();
  } catch (const UserError& error) {
    return error.what();
  }
  return "nothing";
}

TEST(SettingsError, AllOfAConfigurationAtOnce) {
  EXPECT_EQ(yaml_error("learning_rte: 1\nseed: x\nseed: 2\noptimizer:\n  lr: 1\nfp16: true\n"
                       "bf16: true\ntrust_remote_code: true\nlr: 1\nlearning_rate: 2\n"),
            "config.yaml:3: seed is already set in line 2.\n"
            "config.yaml:4: 'optimizer.lr' is nested, settings are flat. Write learning_rate: 1");
  EXPECT_EQ(yaml_error("learning_rte: 1\nseed: x\nfp16: true\nbf16: true\nlr: 1\n"
                       "trust_remote_code: true\nlearning_rate: 2\n"),
            "config.yaml:1: unknown key 'learning_rte'. Did you mean learning_rate?\n"
            "config.yaml:7: lr=1 and learning_rate=2 are two spellings of learning_rate with "
            "different values. Keep one.\n"
            "config.yaml:2: seed is x, expected a whole number of at least 0.\n"
            "config.yaml:6: trust_remote_code is true: snug runs no code that comes with a "
            "model.\n"
            "config.yaml:3: fp16=true and bf16=true: weights have one type. Keep one.");
}

TEST(SettingsError, KeysOfAMethodThatIsNotAskedForAreRefused) {
  EXPECT_EQ(
      checked("lora_r: 16\nuse_dora: true\nlora_dropout: 0.0\nuse_rslora: false\n"),
      "c.yaml:1: lora_r=16 has no effect without finetuning_type=lora. Add that, or leave "
      "lora_r out.\n"
      "c.yaml:2: use_dora=true has no effect without finetuning_type=lora. Add that, or leave "
      "use_dora out.");
  EXPECT_EQ(checked("freeze_trainable_layers: 2\nval_size: 1\n"),
            "c.yaml:1: freeze_trainable_layers=2 has no effect without finetuning_type=freeze. Add "
            "that, or leave freeze_trainable_layers out.");
  ErrorList errors;
  Settings settings = make_settings(parse_config("lora_r: x\n", "c.yaml"), errors);
  EXPECT_FALSE(errors.empty());
  ErrorList more;
  check_settings(settings, more);
  EXPECT_TRUE(more.empty());
  // The method was chosen: its choice holds, and is said where it costs something.
  EXPECT_EQ(checked("finetuning_type: full\nlora_r: 16\n"), "nothing");
  EXPECT_EQ(checked("finetuning_type: full\nlora_r: 8\n"),
            "note: c.yaml:2: lora_r has no effect without finetuning_type=lora.");
  EXPECT_EQ(checked("adapter: qlora\nlora_r: 8\nbnb_4bit_use_double_quant: true\n"), "nothing");
}

TEST(SettingsError, EvaluatingNeedsRows) {
  const std::string refused =
      "c.yaml:1: eval_strategy=steps has no effect without eval_file or val_size. Add that, or "
      "leave eval_strategy out.";
  EXPECT_EQ(checked("eval_strategy: steps\n"), refused);
  EXPECT_EQ(checked("eval_strategy: steps\nval_size: 0\neval_file: []\n"), refused);
  EXPECT_EQ(checked("eval_strategy: steps\nval_size: 0.1\neval_steps: 5\n"), "nothing");
  EXPECT_EQ(checked("eval_strategy: no\n"), "nothing");
}

TEST(SettingsError, KeysWithoutEffectAreNoted) {
  EXPECT_EQ(checked("temperature: 0.5\nnum_train_epochs: 2\nmax_steps: 9\nadam_epsilon: 1e-6\n"
                    "optim: sgd\n"),
            "note: c.yaml:2: num_train_epochs has no effect without max_steps=-1.\n"
            "note: c.yaml:4: adam_epsilon has no effect without optim=adamw_torch or "
            "optim=adamw_8bit or optim=adamw_bnb_8bit.\n"
            "note: c.yaml:1: temperature has no effect without do_sample=true.");
  EXPECT_EQ(checked("num_train_epochs: 3\nmax_steps: 9\n"), "nothing");
  EXPECT_EQ(checked("device: cuda\ninstruction_set: avx2\ncuda_graphs: true\n"),
            "note: c.yaml:2: instruction_set has no effect without device=auto or device=cpu.");
}

TEST(SettingsError, TwoSpellingsOfOneKey) {
  EXPECT_EQ(yaml_error("learning_rate: 1e-4\nlr: 2e-4\n"),
            "config.yaml:2: learning_rate=1e-4 and lr=2e-4 are two spellings of learning_rate with "
            "different values. Keep one.");
  EXPECT_EQ(yaml_error("learning_rate: 1e-4\nlr: 0.0001\n"), "no error");
  EXPECT_EQ(yaml_error("shuffle: true\ntrain_sampling_strategy: random\n"), "no error");
}

TEST(SettingsError, NestedMapsAreRefusedWithTheFlatKey) {
  EXPECT_EQ(
      yaml_error("optimizer:\n  lr: 2e-5\n"),
      "config.yaml:1: 'optimizer.lr' is nested, settings are flat. Write learning_rate: 2e-5");
  EXPECT_EQ(
      yaml_error("training:\n  args:\n    max_steps: 9\n"),
      "config.yaml:1: 'training.args.max_steps' is nested, settings are flat. Write max_steps: "
      "9");
}

TEST(SettingsError, WhatIsNotInThisVersionSaysSo) {
  EXPECT_EQ(yaml_error("neftune_noise_alpha: 5\n"),
            "config.yaml:1: neftune_noise_alpha is 5: NEFTune's noise is not in this version.");
  EXPECT_EQ(yaml_error("finetuning_type: dora\n"),
            "config.yaml:1: finetuning_type is dora: write finetuning_type=lora use_dora=true.");
  EXPECT_EQ(yaml_error("report_to: [none, wandb]\n"),
            "config.yaml:1: report_to is wandb: trackers are not in this version; metrics.jsonl is "
            "always written.");
  EXPECT_EQ(yaml_error("finetuning_type: fully\n"),
            "config.yaml:1: finetuning_type is fully, expected one of full, freeze, lora. Did "
            "you mean full?");
  EXPECT_EQ(yaml_error("deepspeed: ds.json\n"),
            "config.yaml:1: deepspeed is ds.json: Training over several processes is not in this "
            "version.");
  EXPECT_EQ(yaml_error("trust_remote_code: true\n"),
            "config.yaml:1: trust_remote_code is true: snug runs no code that comes with a model.");
  EXPECT_EQ(
      yaml_error("gradient_checkpointing_kwargs: {every_n_layers: 2}\n"),
      "config.yaml:1: activation_checkpointing_kwargs (written gradient_checkpointing_kwargs) is "
      "{every_n_layers: 2}: Write activation_checkpointing=every:K for every_n_layers.");
}

TEST(SettingsError, ARequiredKeyIsExplained) {
  try {
    const std::vector<std::string_view> keys = {"model_name_or_path"};
    require_setting(default_settings(), keys, "train");
    FAIL() << "no error";
  } catch (const UserError& error) {
    EXPECT_TRUE(std::string(error.what())
                    .starts_with("train needs model_name_or_path (short: model): A model's folder"))
        << error.what();
  }
}

}  // namespace
}  // namespace snug
