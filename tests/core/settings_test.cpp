// What keys and values mean, where they come from, and how the configuration is printed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/settings_load.h"

namespace snug {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::int64_t kGiB = 1073741824;

Settings from_yaml(const std::string& text) { return make_settings(parse_config(text, "c.yaml")); }

Settings from_words(const std::vector<std::pair<std::string, std::string>>& words,
                    const std::string& yaml = "") {
  std::vector<Assignment> all = parse_config(yaml, "c.yaml");
  for (const auto& [key, value] : words) all.push_back(from_command_line(key, value));
  return make_settings(all);
}

TEST(Settings, DefaultsAreTheContracts) {
  const Settings s = default_settings();
  EXPECT_DOUBLE_EQ(s.schedule.learning_rate, 2e-5);
  EXPECT_DOUBLE_EQ(s.optimizer.weight_decay, 0);
  EXPECT_EQ(s.precision.master_weights, MasterWeights::fp32);
  EXPECT_TRUE(s.precision.bf16);
  EXPECT_EQ(s.schedule.type, Scheduler::cosine);
  EXPECT_DOUBLE_EQ(s.schedule.warmup_steps.value, 0.03);
  EXPECT_DOUBLE_EQ(s.optimizer.max_grad_norm, 1);
  EXPECT_DOUBLE_EQ(s.schedule.num_train_epochs, 3);
  EXPECT_EQ(s.data.max_length, 2048);
  EXPECT_EQ(s.data.bucket_count, 8);
  EXPECT_EQ(s.recompute.policy, RecomputeOptions::Policy::automatic);
  EXPECT_EQ(s.device.memory, std::nullopt);
  EXPECT_DOUBLE_EQ(s.logging.steps.value, 10);
  EXPECT_DOUBLE_EQ(s.save.steps.value, 500);
  EXPECT_EQ(s.save.total_limit, 2);
  EXPECT_EQ(s.run.seed, 42);
  EXPECT_EQ(s.data.order, RowOrder::random);
  EXPECT_EQ(resolve_batch(s).rows, 16);
  EXPECT_FALSE(s.is_set("seed"));
  EXPECT_EQ(s.origin("seed").place, "default");
}

TEST(Settings, RandomInitHasItsOwnDefaults) {
  const Settings s = from_yaml("init: random\n");
  EXPECT_DOUBLE_EQ(s.schedule.learning_rate, 3e-4);
  EXPECT_DOUBLE_EQ(s.optimizer.weight_decay, 0.1);
  EXPECT_DOUBLE_EQ(from_yaml("init: random\nlr: 1e-3\n").schedule.learning_rate, 1e-3);
}

TEST(Settings, AdaptersHaveTheirOwnDefaultsAndNames) {
  const Settings s = from_yaml("use_peft: true\nlora_rank: 8\nrank_pattern: {q_proj: 4, k: 2}\n");
  EXPECT_EQ(s.model.finetuning, FinetuningType::lora);
  EXPECT_DOUBLE_EQ(s.schedule.learning_rate, 2e-4);
  EXPECT_EQ(s.lora.rank, 8);
  EXPECT_EQ(s.lora.alpha, std::nullopt);
  EXPECT_THAT(s.lora.targets, ElementsAre("all-linear"));
  EXPECT_EQ(s.lora.rank_pattern, (NamedNumbers{{"q_proj", 4}, {"k", 2}}));
  EXPECT_EQ(from_yaml("adapter: lora\nlora_target: all\n").lora.targets.front(), "all-linear");
}

TEST(Settings, QloraIsLoraOverFourBits) {
  for (const char* key : {"adapter", "finetuning_type"}) {
    const Settings s = from_words({{key, "qlora"}});
    EXPECT_EQ(s.model.finetuning, FinetuningType::lora);
    EXPECT_TRUE(s.quantization.load_in_4bit);
    EXPECT_EQ(s.origin("load_in_4bit").place, "command line");
    EXPECT_DOUBLE_EQ(s.schedule.learning_rate, 2e-4);
  }
  const Settings eight = from_yaml("adapter: qlora\nload_in_8bit: true\n");
  EXPECT_TRUE(eight.quantization.load_in_8bit);
  EXPECT_FALSE(eight.quantization.load_in_4bit);
  EXPECT_FALSE(
      from_words({{"load_in_4bit", "false"}}, "adapter: qlora\n").quantization.load_in_4bit);
  EXPECT_FALSE(
      from_words({{"adapter", "lora"}}, "finetuning_type: lora\n").quantization.load_in_4bit);
}

TEST(Settings, LaterWinsAndRemembersItsPlace) {
  const Settings s = from_words({{"seed", "7"}, {"lr", "1e-3"}, {"lr", "2e-3"}},
                                "model: m\nseed: 5\nlearning_rate: 9e-9\n");
  EXPECT_EQ(s.run.seed, 7);
  EXPECT_DOUBLE_EQ(s.schedule.learning_rate, 2e-3);
  EXPECT_EQ(s.origin("seed").place, "command line");
  EXPECT_EQ(s.origin("model_name_or_path").place, "c.yaml:1");
}

TEST(Settings, AliasesMeanTheCanonicalKey) {
  const Settings s = from_yaml(
      "base_model: m\nmicro_batch_size: 2\nsequence_len: 77\nshuffle: false\nuse_cpu: true\n"
      "gradient_checkpointing: True\nwarmup_ratio: 0.1\nfp32: yes\n");
  EXPECT_EQ(s.model.name_or_path, "m");
  EXPECT_EQ(s.batch.per_device_train_batch_size, 2);
  EXPECT_EQ(s.data.max_length, 77);
  EXPECT_EQ(s.data.order, RowOrder::sequential);
  EXPECT_EQ(s.device.kind, DeviceKind::cpu);
  EXPECT_EQ(s.recompute.policy, RecomputeOptions::Policy::every_block);
  EXPECT_DOUBLE_EQ(s.schedule.warmup_steps.value, 0.1);
  EXPECT_FALSE(s.precision.bf16);
  EXPECT_TRUE(s.is_set("max_length"));
}

TEST(Settings, ReadsEveryKindOfValue) {
  using enum RecomputeOptions::Policy;
  const std::vector<std::pair<const char*, RecomputeOptions>> policies = {
      {"auto", {automatic, 0}},
      {"false", {off, 0}},
      {"cheap", {cheap, 0}},
      {"every:4", {every, 4}},
      {"segments:3", {segments, 3}},
      {"keep_attention", {keep_attention, 0}},
      {"sqrt", {RecomputeOptions::Policy::sqrt, 0}},
      {"2GiB", {limit, 2 * kGiB}}};
  for (const auto& [text, policy] : policies) {
    EXPECT_EQ(from_words({{"activation_checkpointing", text}}).recompute, policy) << text;
  }
  const Settings s =
      from_words({{"data", "a.jsonl, b.jsonl"},
                  {"device_memory", "8GiB"},
                  {"threads", "2"},
                  {"max_length", "none"},
                  {"resume_from_checkpoint", "true"},
                  {"lr_scheduler_kwargs", "{\"min_lr_rate\": 0.1, \"decay_type\": \"1-sqrt\"}"}});
  EXPECT_THAT(s.data.train_files, ElementsAre("a.jsonl", "b.jsonl"));
  EXPECT_EQ(s.device.memory, Bytes{8 * kGiB});
  EXPECT_EQ(s.device.threads, 2);
  EXPECT_EQ(s.data.max_length, std::nullopt);
  EXPECT_TRUE(s.run.resume.latest);
  EXPECT_EQ(s.schedule.arguments.min_lr_rate, 0.1);
  EXPECT_EQ(s.schedule.arguments.decay_type, "1-sqrt");
  EXPECT_EQ(from_yaml("resume_from_checkpoint: runs/x/checkpoint-5\n").run.resume.folder,
            "runs/x/checkpoint-5");
  EXPECT_EQ(from_yaml("lr_scheduler_kwargs:\n  num_cycles: 0.25\n").schedule.arguments.num_cycles,
            0.25);
  EXPECT_EQ(from_yaml("save_total_limit: null\n").save.total_limit, std::nullopt);
  EXPECT_EQ(from_yaml("seed: null\n").run.seed, 42);
}

TEST(Settings, TimesHaveUnits) {
  const std::vector<std::pair<const char*, double>> times = {{"1800", 1800},  {"30min", 1800},
                                                             {"0.5 h", 1800}, {"45s", 45},
                                                             {"1e3", 1000},   {"2 days", 172800}};
  for (const auto& [text, seconds] : times) {
    const Settings s = from_words({{"save_interval", text}});
    EXPECT_EQ(s.save.interval, Duration{seconds}) << text;
    EXPECT_EQ(
        from_yaml("save_interval: " + find_setting("save_interval").row->field.print(s) + "\n")
            .save.interval,
        s.save.interval);
  }
  EXPECT_EQ(from_words({{"save_interval", "none"}}).save.interval, std::nullopt);
  for (const char* text : {"30 minuets", "min", "-5", "0"}) {
    EXPECT_THROW(from_words({{"save_interval", text}}), UserError) << text;
  }
  EXPECT_TRUE(from_words({{"resume_from_checkpoint", "auto"}}).run.resume.automatic);
}

TEST(Settings, NoConfigurationThatSnugMakesNamesACommand) {
  const Settings s = from_words({{"on_end", "touch x"}});
  EXPECT_EQ(s.run.on_end, "touch x");
  EXPECT_EQ(effective_yaml(s).find("on_end"), std::string::npos);
}

TEST(Settings, SharesAreRoundedUp) {
  EXPECT_EQ((CountOrShare{0.03}).of(186), 6);
  EXPECT_EQ((CountOrShare{0}).of(186), 0);
  EXPECT_EQ((CountOrShare{500}).of(186), 500);
}

TEST(Settings, PeersKeysWithoutEffectAreNoted) {
  const Settings s = from_yaml(
      "dataloader_num_workers: 4\nfp16: false\npacking: false\nhub_token: null\n"
      "gradient_checkpointing_kwargs: {use_reentrant: false}\nlora_dropout: 0.0\n");
  ASSERT_EQ(s.notes.size(), 1U);
  EXPECT_THAT(s.notes[0], HasSubstr("c.yaml:1: dataloader_num_workers has no effect here: "));
}

// Everything that is printed reads back, for a configuration where no key has its default.
TEST(Settings, EffectiveYamlRoundTrips) {
  std::vector<std::pair<std::string, std::string>> words;
  for (const Row& row : settings_table()) {
    if (!row.field) continue;
    const Settings before = default_settings();
    std::string chosen;
    for (const char* candidate : {"7", "0.5", "0.25", "true", "false", "3MiB", "a b, c",
                                  "{power: 2.5, num_cycles: 3}", "{text: body}"}) {
      Settings changed = before;
      if (row.field.choices.empty() && row.field.read(changed, RawValue::scalar(candidate)) &&
          row.field.print(changed) != row.field.print(before)) {
        chosen = candidate;
        break;
      }
    }
    for (const std::string_view choice : row.field.choices) {
      if (choice != row.field.print(before)) chosen = choice;
    }
    ASSERT_FALSE(chosen.empty()) << row.key;
    words.emplace_back(row.key, chosen);
  }
  const Settings all = from_words(words);
  for (const Settings& settings : {all, default_settings()}) {
    const std::string text = effective_yaml(settings, all_groups(), {{"seed", "a comment"}});
    EXPECT_THAT(text, HasSubstr("  # a comment\n"));
    EXPECT_EQ(effective_yaml(from_yaml(text), all_groups(), {{"seed", "a comment"}}), text);
  }
  EXPECT_EQ(effective_yaml(default_settings()).find("max_new_tokens"), std::string::npos);
}

TEST(Settings, ReproLineQuotesForTheShell) {
  const Settings s = from_words({{"prompt", "it's: x"}, {"data", "a,b"}, {"lr", "1e-4"}});
  EXPECT_EQ(repro_line("train", s),
            "snug train 'train_file=[a, b]' learning_rate=0.0001 'prompt=it'\\''s: x'");
}

TEST(Settings, NullTakesAnAssignmentBack) {
  const std::string nulls =
      "lora_target_modules: null\nmodules_to_save: ~\nseed: None\nlr_scheduler_kwargs: null\n"
      "hub_token: null\nwarmup_steps: null\noutput_dir: null\noptim_args: null\n";
  EXPECT_EQ(effective_yaml(from_yaml(nulls)), effective_yaml(default_settings()));
  EXPECT_EQ(from_words({{"seed", "null"}}, "seed: 7\n").run.seed, 42);
  EXPECT_EQ(from_words({{"prompt", "null"}}).generate.prompt, "null");
  EXPECT_EQ(from_yaml("save_total_limit: 3\n").save.total_limit, 3);
  // It never stands against a value under another name.
  EXPECT_THAT(from_yaml("lora_target_modules: null\nlora_target_linear: true\n").lora.targets,
              ElementsAre("all-linear"));
  EXPECT_THAT(from_yaml("target_modules: [q_proj]\nlora_target_linear: false\n").lora.targets,
              ElementsAre("q_proj"));
}

TEST(Settings, PeersSpellingsOfValues) {
  const Settings s = from_yaml(
      "bf16: auto\nfp16: auto\ndevice: gpu\nlora_target_modules: all\neval_sample_packing: true\n"
      "dataloader_num_workers: 4\npreprocessing_num_workers: 16\n");
  EXPECT_TRUE(s.precision.bf16);
  EXPECT_FALSE(s.is_set("bf16"));
  EXPECT_FALSE(s.precision.fp16);
  EXPECT_EQ(s.device.kind, DeviceKind::cuda);
  EXPECT_THAT(s.lora.targets, ElementsAre("all-linear"));
  EXPECT_EQ(s.data.eval_packing, true);
  EXPECT_EQ(s.notes.size(), 2U);
}

TEST(Settings, EveryRowSaysWhenItHasAnEffect) {
  for (const Row& row : settings_table()) {
    if (!row.field) continue;
    EXPECT_TRUE(row.only_with) << row.key << ": .only_with = always(), or its needs";
    for (const Need& need : row.only_with.value_or(always())) {
      EXPECT_FALSE(need.any.empty()) << row.key;
      for (const KeyIs& look : need.any) {
        const Found other = find_setting(look.key);
        ASSERT_TRUE(other && other.row->field && other.alias == nullptr) << row.key;
        // Values are spelled as they are printed, else none would ever be met.
        for (const std::string_view value : look.values) {
          Settings scratch = default_settings();
          EXPECT_TRUE(other.row->field.read(scratch, RawValue::scalar(std::string(value))));
          EXPECT_EQ(other.row->field.print(scratch), value) << row.key;
        }
      }
    }
  }
}

TEST(Settings, EveryRowOfARunSaysWhatResumingWithAnotherValueMeans) {
  for (const Row& row : settings_table()) {
    const auto groups = run_groups();
    const bool of_a_run = std::find(groups.begin(), groups.end(), row.group) != groups.end();
    if (row.status != Status::supported || !of_a_run) continue;
    EXPECT_NE(row.resume, OnResume::undeclared) << row.key;
    EXPECT_TRUE(row.field || row.resume == OnResume::free) << row.key;
  }
}

TEST(Settings, EveryDefaultIsValidAndEveryRowExplained) {
  for (const Row& row : settings_table()) {
    EXPECT_FALSE(row.sentence.empty()) << row.key;
    EXPECT_TRUE(row.sentence.ends_with('.')) << row.key;
    EXPECT_TRUE(row.status != Status::supported || row.group != Group::other) << row.key;
    for (const std::string_view text :
         {row.initial.full, row.initial.adapters, row.initial.random}) {
      Settings scratch;
      if (row.field && !text.empty()) {
        EXPECT_TRUE(row.field.read(scratch, RawValue::scalar(std::string(text)))) << row.key;
      }
    }
  }
}

TEST(Batch, JoinsTheThreeKeys) {
  const auto shape = [](const std::string& yaml) { return resolve_batch(from_yaml(yaml)); };
  EXPECT_EQ(shape("").micro, std::nullopt);
  EXPECT_EQ(shape("per_device_train_batch_size: 4\n").rows, 4);
  EXPECT_EQ(shape("batch_size: 4\ngradient_accumulation_steps: 8\n").rows, 32);
  const BatchShape given = shape("global_batch_size: 12\nbatch_size: 4\n");
  EXPECT_EQ(given.rows, 12);
  EXPECT_EQ(given.accumulation, 3);
  EXPECT_EQ(shape("gradient_accumulation_steps: 4\n").micro, 4);
  EXPECT_EQ(resolve_batch(from_yaml("batch_size: 4\n"), 2).rows, 8);
  for (const char* wrong :
       {"global_batch_size: 12\nbatch_size: 5\n", "global_batch_size: 12\nbatch_size: 24\n",
        "global_batch_size: 12\nbatch_size: 4\ngradient_accumulation_steps: 2\n",
        "gradient_accumulation_steps: 3\n",
        "batch_size: 9223372036854775807\ngradient_accumulation_steps: 2\n"}) {
    EXPECT_THROW(shape(wrong), UserError) << wrong;
  }
}

}  // namespace
}  // namespace snug
