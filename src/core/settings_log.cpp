#include "core/settings_field.h"

namespace snug {

std::vector<Row> log_rows() {
  return {
      {.key = "eval_strategy",
       .group = Group::evaluation,
       .field = field(&Settings::evaluation, &EvaluationSettings::strategy),
       .initial = "auto",
       .sentence = "When to evaluate: auto is after each epoch if there are rows to evaluate.",
       .peer = "no",
       .why = "rows given for evaluation are meant to be used",
       .aliases = {"evaluation_strategy"}},
      {.key = "eval_steps",
       .group = Group::evaluation,
       .field = field(&Settings::evaluation, &EvaluationSettings::steps, "none", kPositive),
       .initial = "none",
       .sentence =
           "With eval_strategy=steps: every so many steps, or below 1 that share of all; none: "
           "as logging_steps.",
       .peer = "null",
       .aliases = {"steps_per_eval"}},
      {.key = "logging_steps",
       .group = Group::logging,
       .field = field(&Settings::logging, &LoggingSettings::steps, kPositive),
       .initial = "10",
       .sentence = "Every so many steps, or below 1 that share of all, a line is printed. "
                   "metrics.jsonl has every step.",
       .peer = "500",
       .why = "TRL's value: one sees sooner what happens",
       .aliases = {"log_every_n_steps", "steps_per_report", "steps_per_print"}},
      {.key = "report_to",
       .group = Group::logging,
       .initial = "none",
       .sentence = "Trackers. output_dir/metrics.jsonl is always written.",
       .peer = "none",
       .inert = {"none", "null", "[]", "[none]", "jsonl"},
       .refused = {{{"all", "wandb", "tensorboard", "mlflow", "trackio", "swanlab", "comet_ml",
                     "clearml", "neptune", "aim", "dvclive", "codecarbon"},
                    "trackers are not in this version; metrics.jsonl is always written"}}},
      {.key = "output_dir",
       .group = Group::saving,
       .field = field(&Settings::run, &RunSettings::output_dir, "auto"),
       .initial = "auto",
       .sentence =
           "Folder of the checkpoints, the logs and the final model. auto: runs/MODEL-DATA, "
           "numbered when taken.",
       .peer = "null",
       .why = "a name that says what was run",
       .aliases = {"adapter_path", "export_dir"}},
      {.key = "save_strategy",
       .group = Group::saving,
       .field = field(&Settings::save, &SaveSettings::strategy),
       .initial = "steps",
       .sentence =
           "When checkpoints are written; auto is steps. The final model is always written.",
       .peer = "steps",
       .refused = {{{"best"}, "keeping the best checkpoint is not in this version"}}},
      {.key = "save_steps",
       .group = Group::saving,
       .field = field(&Settings::save, &SaveSettings::steps, kPositive),
       .initial = "500",
       .sentence = "With save_strategy=steps: every so many steps, or below 1 that share of all.",
       .peer = "500",
       .aliases = {"save_every"}},
      {.key = "save_total_limit",
       .group = Group::saving,
       .field = field(&Settings::save, &SaveSettings::total_limit, "none", kAtLeastOne),
       .initial = "2",
       .sentence = "How many checkpoints are kept, the newest ones; none: all.",
       .peer = "null",
       .why = "a full disk ends a run; one checkpoint to resume from and one before it suffice"},
      {.key = "resume_from_checkpoint",
       .group = Group::saving,
       .field = field(&Settings::run, &RunSettings::resume),
       .initial = "false",
       .sentence = "Goes on from a checkpoint, bit for bit: true is the newest in output_dir that "
                   "loads, or name a checkpoint's folder.",
       .peer = "null",
       .aliases = {"auto_resume_from_checkpoints"}},
  };
}

}  // namespace snug
