#pragma once
// How each type of setting is read, printed and described.

#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/settings.h"
#include "core/yaml.h"

namespace snug {

template <class E>
struct EnumName {
  E value;
  std::string_view name;
};

constexpr auto enum_names(InitWeights) {
  return std::to_array<EnumName<InitWeights>>(
      {{InitWeights::pretrained, "pretrained"}, {InitWeights::random, "random"}});
}
constexpr auto enum_names(FinetuningType) {
  using enum FinetuningType;
  return std::to_array<EnumName<FinetuningType>>(
      {{full, "full"}, {freeze, "freeze"}, {lora, "lora"}});
}
constexpr auto enum_names(RowOrder) {
  return std::to_array<EnumName<RowOrder>>(
      {{RowOrder::random, "random"}, {RowOrder::sequential, "sequential"}});
}
constexpr auto enum_names(TrainOn) {
  using enum TrainOn;
  return std::to_array<EnumName<TrainOn>>({{automatic, "auto"},
                                           {all, "all"},
                                           {assistant, "assistant"},
                                           {last, "last"},
                                           {completion, "completion"},
                                           {whole, "whole_messages"}});
}
constexpr auto enum_names(BadRows) {
  return std::to_array<EnumName<BadRows>>({{BadRows::stop, "stop"}, {BadRows::skip, "skip"}});
}
constexpr auto enum_names(ExcessLength) {
  using enum ExcessLength;
  return std::to_array<EnumName<ExcessLength>>({{automatic, "auto"},
                                                {truncate, "truncate"},
                                                {drop, "drop"},
                                                {raise, "raise"},
                                                {split, "split"}});
}
constexpr auto enum_names(TruncationMode) {
  using enum TruncationMode;
  return std::to_array<EnumName<TruncationMode>>(
      {{keep_start, "keep_start"}, {keep_end, "keep_end"}});
}
constexpr auto enum_names(Scheduler) {
  using enum Scheduler;
  return std::to_array<EnumName<Scheduler>>(
      {{linear, "linear"},
       {cosine, "cosine"},
       {cosine_with_restarts, "cosine_with_restarts"},
       {polynomial, "polynomial"},
       {constant, "constant"},
       {constant_with_warmup, "constant_with_warmup"},
       {inverse_sqrt, "inverse_sqrt"},
       {cosine_with_min_lr, "cosine_with_min_lr"},
       {cosine_warmup_with_min_lr, "cosine_warmup_with_min_lr"},
       {warmup_stable_decay, "warmup_stable_decay"}});
}
constexpr auto enum_names(Optimizer) {
  using enum Optimizer;
  return std::to_array<EnumName<Optimizer>>({{adamw_torch, "adamw_torch"},
                                             {adamw_8bit, "adamw_8bit"},
                                             {adamw_bnb_8bit, "adamw_bnb_8bit"},
                                             {adafactor, "adafactor"},
                                             {adafactor_torch, "adafactor_torch"},
                                             {lion_32bit, "lion_32bit"},
                                             {lion_8bit, "lion_8bit"},
                                             {sgd, "sgd"},
                                             // Other names of the same.
                                             {adamw_torch, "adamw_torch_fused"},
                                             {adamw_torch, "adamw"},
                                             {adamw_torch, "AdamW"},
                                             {adamw_torch, "torch.optim.AdamW"},
                                             {adamw_bnb_8bit, "bitsandbytes.optim.AdamW8bit"},
                                             {adafactor_torch, "torch.optim.Adafactor"},
                                             {lion_32bit, "lion"},
                                             {lion_32bit, "bitsandbytes.optim.Lion"},
                                             {lion_8bit, "bitsandbytes.optim.Lion8bit"},
                                             {sgd, "torch.optim.SGD"}});
}
constexpr auto enum_names(MasterWeights) {
  return std::to_array<EnumName<MasterWeights>>(
      {{MasterWeights::fp32, "fp32"}, {MasterWeights::none, "none"}});
}
constexpr auto enum_names(GradientType) {
  using enum GradientType;
  return std::to_array<EnumName<GradientType>>(
      {{automatic, "auto"}, {bf16, "bf16"}, {fp32, "fp32"}});
}
constexpr auto enum_names(FourBitType) {
  return std::to_array<EnumName<FourBitType>>(
      {{FourBitType::nf4, "nf4"}, {FourBitType::fp4, "fp4"}});
}
constexpr auto enum_names(DeviceKind) {
  using enum DeviceKind;
  return std::to_array<EnumName<DeviceKind>>({{automatic, "auto"},
                                              {cpu, "cpu"},
                                              {cuda, "cuda"},
                                              {reference, "reference"},
                                              // Other names of the same.
                                              {cuda, "gpu"},
                                              {cuda, "cuda:0"}});
}
constexpr auto enum_names(InstructionSet) {
  using enum InstructionSet;
  return std::to_array<EnumName<InstructionSet>>({{automatic, "auto"},
                                                  {avx2, "avx2"},
                                                  {avx512, "avx512"},
                                                  {avx512_bf16, "avx512_bf16"},
                                                  {amx, "amx"}});
}
constexpr auto enum_names(Interval) {
  using enum Interval;
  return std::to_array<EnumName<Interval>>(
      {{automatic, "auto"}, {no, "no"}, {steps, "steps"}, {epoch, "epoch"}});
}
constexpr auto enum_names(ExportFormat) {
  return std::to_array<EnumName<ExportFormat>>(
      {{ExportFormat::safetensors, "safetensors"}, {ExportFormat::gguf, "gguf"}});
}
constexpr auto enum_names(ExportType) {
  using enum ExportType;
  return std::to_array<EnumName<ExportType>>(
      {{automatic, "auto"}, {fp32, "fp32"}, {fp16, "fp16"}, {bf16, "bf16"}, {q8_0, "q8_0"}});
}
constexpr auto enum_names(NanPolicy) {
  return std::to_array<EnumName<NanPolicy>>({{NanPolicy::stop, "stop"}, {NanPolicy::skip, "skip"}});
}

/// The spelling of an enumerator in settings.
template <class E>
  requires std::is_enum_v<E>
constexpr std::string_view name_of(E value) {
  for (const auto& entry : enum_names(E{})) {
    if (entry.value == value) return entry.name;
  }
  return "?";
}

/// true/false, yes/no, on/off, 1/0 in letters of either case.
std::optional<bool> parse_bool(std::string_view text);
/// A finite decimal number, the whole text.
std::optional<double> parse_number(std::string_view text);
std::optional<std::int64_t> parse_integer(std::string_view text);

// read_value: false when the text is not one of the type; print_value reads back as the same value.
bool read_value(const RawValue& raw, bool& value);
bool read_value(const RawValue& raw, std::int64_t& value);
bool read_value(const RawValue& raw, double& value);
bool read_value(const RawValue& raw, std::string& value);
bool read_value(const RawValue& raw, std::vector<std::string>& value);
bool read_value(const RawValue& raw, Bytes& value);
bool read_value(const RawValue& raw, CountOrShare& value);
/// `1800`, `30 s`, `30min`, `1.5h`, `2 d`.
bool read_value(const RawValue& raw, Duration& value);
bool read_value(const RawValue& raw, NamedNumbers& value);
bool read_value(const RawValue& raw, ColumnNames& value);
bool read_value(const RawValue& raw, RecomputeOptions& value);
bool read_value(const RawValue& raw, Resume& value);
/// UserError for a name it does not know, which says more than `false` could.
bool read_value(const RawValue& raw, SchedulerArguments& value);
bool read_value(const RawValue& raw, OptimizerArguments& value);

std::string print_value(bool value);
std::string print_value(std::int64_t value);
std::string print_value(double value);
std::string print_value(const std::string& value);
std::string print_value(const std::vector<std::string>& value);
std::string print_value(Bytes value);
std::string print_value(CountOrShare value);
std::string print_value(Duration value);
std::string print_value(const NamedNumbers& value);
std::string print_value(const ColumnNames& value);
std::string print_value(const RecomputeOptions& value);
std::string print_value(const Resume& value);
std::string print_value(const SchedulerArguments& value);
std::string print_value(const OptimizerArguments& value);

// What an error message says was expected.
std::string expected_of(bool);
std::string expected_of(std::int64_t);
std::string expected_of(double);
std::string expected_of(const std::string&);
std::string expected_of(const std::vector<std::string>&);
std::string expected_of(Bytes);
std::string expected_of(CountOrShare);
std::string expected_of(Duration);
std::string expected_of(const NamedNumbers&);
std::string expected_of(const ColumnNames&);
std::string expected_of(const RecomputeOptions&);
std::string expected_of(const Resume&);
std::string expected_of(const SchedulerArguments&);
std::string expected_of(const OptimizerArguments&);

template <class E>
  requires std::is_enum_v<E>
bool read_value(const RawValue& raw, E& value) {
  if (raw.kind != RawValue::Kind::scalar) return false;
  for (const auto& entry : enum_names(E{})) {
    if (entry.name != raw.text) continue;
    value = entry.value;
    return true;
  }
  return false;
}

template <class E>
  requires std::is_enum_v<E>
std::string print_value(E value) {
  return std::string(name_of(value));
}

template <class E>
  requires std::is_enum_v<E>
std::string expected_of(E) {
  std::string text = "one of";
  for (const auto& entry : enum_names(E{})) {
    text += text == "one of" ? " " : ", ";
    text += entry.name;
  }
  return text;
}

}  // namespace snug
