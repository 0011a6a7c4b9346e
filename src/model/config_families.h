#pragma once
// The table of model families, and the keys of config.json that need no support.

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "model/config.h"

namespace snug {

/// What `attention_bias` means to a family.
enum class BiasRule : std::uint8_t {
  never,         ///< no biases
  always_qkv,    ///< on q, k and v, not on o
  key_for_qkvo,  ///< the key switches all four
};

/// Where a family's sliding windows are.
enum class WindowRule : std::uint8_t {
  none,
  every_layer,     ///< `sliding_window`, null = none
  by_layer_types,  ///< `use_sliding_window`, `sliding_window`, `max_window_layers`, `layer_types`
};

/// One family: its names, its defaults for absent keys, and which rules hold for it.
struct FamilyRow {
  Family family;
  std::string_view model_type;
  std::string_view architecture;
  std::int64_t vocab_size;
  std::int64_t intermediate_size;
  std::int64_t num_key_value_heads;  ///< 0: as many as attention heads
  std::int64_t head_dim;             ///< 0: hidden_size / heads
  std::int64_t max_position_embeddings;
  std::optional<std::int64_t> bos_token_id;
  std::optional<std::int64_t> eos_token_id;
  BiasRule bias;
  bool mlp_bias_key;
  bool qk_norm;
  WindowRule window;
  bool whole_heads;  ///< hidden_size must divide by the heads, whatever head_dim says
};

std::span<const FamilyRow> family_rows();
const FamilyRow& family_row(Family family);

/// True for a key that never changes the arithmetic of training or generation.
bool is_ignored_key(std::string_view key);

/// A key that changes nothing as long as it has one of these values (a JSON array).
struct NeutralKey {
  std::string_view key;
  std::string_view values;
};

/// The row for `key`, if it is such a key where its family does not read it.
std::optional<NeutralKey> neutral_key(std::string_view key);

}  // namespace snug
