#include "core/settings_field.h"

namespace snug {

std::vector<Row> data_rows() {
  return {
      {.key = "train_file",
       .group = Group::data,
       .field = field(&Settings::data, &DataSettings::train_files),
       .initial = "[]",
       .sentence = "JSON Lines to train on: a file, a list of files, a folder or a glob. Rows hold "
                   "text; prompt and completion; or input_ids and labels.",
       .aliases = {"data", "dataset"},
       .only_with = always(),
       .resume = OnResume::in_state},
      {.key = "eval_file",
       .group = Group::data,
       .field = field(&Settings::data, &DataSettings::eval_files),
       .initial = "[]",
       .sentence = "Rows to evaluate on, given as train_file is.",
       .aliases = {"validation_file", "eval_dataset"},
       .only_with = always(),
       .resume = OnResume::free},
      {.key = "val_size",
       .group = Group::data,
       .field = field(&Settings::data, &DataSettings::val_size),
       .initial = "0",
       .sentence =
           "Without eval_file: how many rows of train_file, or below 1 which share of them, "
           "are kept for evaluation.",
       .aliases = {"val_set_size"},
       .only_with = std::vector<Need>{{.any = {{"eval_file", {"[]"}}}}},
       .resume = OnResume::in_state},
      {.key = "max_length",
       .group = Group::data,
       .field = field(&Settings::data, &DataSettings::max_length, "none", kAtLeastOne),
       .initial = "2048",
       .sentence =
           "Tokens a row; longer rows are cut at the end and counted. Capped by the model and "
           "by the longest row; none: only by these.",
       .peer = "1024",
       .why = "memory is planned and buckets follow the data, so room costs nothing when unused",
       .aliases = {"max_seq_length", "sequence_len", "cutoff_len", "tokenizer.max_seq_len",
                   "max_seq_len"},
       .only_with = always(),
       .resume = OnResume::in_state},
      {.key = "append_eos",
       .group = Group::data,
       .field = field(&Settings::data, &DataSettings::append_eos),
       .initial = "true",
       .sentence = "Ends text and completions with the end-of-sequence token where it is missing.",
       .only_with = always(),
       .resume = OnResume::in_state},
      {.key = "train_sampling_strategy",
       .group = Group::data,
       .field = field(&Settings::data, &DataSettings::order),
       .initial = "random",
       .sentence =
           "Order of the rows: random is shuffled anew each epoch from data_seed; sequential "
           "is the files' order.",
       .peer = "random",
       .aliases = {{"shuffle", {{"true", "random"}, {"false", "sequential"}}},
                   {"disable_shuffling", {{"true", "sequential"}, {"false", "random"}}},
                   {"group_by_length", {{"true", "group_by_length"}, {"false", "random"}}}},
       .refused = {{{"group_by_length", "batch_rebalance"},
                    "snug pads to length buckets (bucket_count), and sampling by length is not in "
                    "this version"}},
       .only_with = always(),
       .resume = OnResume::fixed},
      {.key = "data_seed",
       .group = Group::data,
       .field = field(&Settings::data, &DataSettings::data_seed, "none", kNotNegative),
       .initial = "none",
       .sentence = "Seed of the rows' order; none: as seed.",
       .peer = "null",
       .only_with = std::vector<Need>{{.any = {{"train_sampling_strategy", {"random"}}}}},
       .resume = OnResume::in_state},
      {.key = "bucket_count",
       .group = Group::data,
       .field = field(&Settings::data, &DataSettings::bucket_count, Range{1, 64}),
       .initial = "8",
       .sentence = "At most so many row lengths are compiled; each micro-batch is padded to the "
                   "nearest.",
       .only_with = always(),
       .resume = OnResume::fixed},
      {.key = "packing",
       .group = Group::data,
       .field = field(&Settings::data, &DataSettings::packing),
       .initial = "false",
       .sentence = "Puts several rows into one sequence of at most max_length tokens (best-fit "
                   "decreasing), as documents that do not see each other, with positions of their "
                   "own; rows a step then counts sequences. No row is cut for it.",
       .peer = "false",
       .aliases = {"dataset.packed", "sample_packing", "neat_packing"},
       .only_with = always(),
       .resume = OnResume::in_state},
      {.key = "eval_packing",
       .group = Group::data,
       .field = field(&Settings::data, &DataSettings::eval_packing, "none"),
       .initial = "none",
       .sentence = "The same for the rows to evaluate on; none: as packing.",
       .peer = "null",
       .aliases = {"eval_sample_packing"},
       .only_with =
           std::vector<Need>{{.any = {{"eval_file", {"[]"}, true}, {"val_size", {"0"}, true}}}},
       .resume = OnResume::free},
  };
}

}  // namespace snug
