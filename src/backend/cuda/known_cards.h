#pragma once
// What context and libraries were found to take on a card, remembered for plans made later.

#include <cstdint>
#include <filesystem>
#include <optional>

#include "plan/card.h"

namespace snug::cuda {

/// `snug/cards.json` in the user's cache folder; empty where no such folder is known.
std::filesystem::path known_cards_file();

/// The least that was measured on a card of these figures. Nothing when none was, or the file
/// cannot be read.
std::optional<std::int64_t> remembered_overhead(const std::filesystem::path& file,
                                                const Card& card);

/// Keeps a measured card's overhead where it is the least so far: what other processes held counts
/// in some measurements. A file that cannot be written is left alone.
void remember_overhead(const std::filesystem::path& file, const Card& card);

}  // namespace snug::cuda
