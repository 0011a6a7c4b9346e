#include "backend/cuda/known_cards.h"

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

namespace snug::cuda {
namespace {

namespace fs = std::filesystem;

/// The profile's name where the card has one, so that a plan for the profile finds it.
std::string key_of(const Card& card) {
  const CardProfile* const profile = profile_of(card);
  return profile == nullptr ? card.name : std::string(profile->name);
}

/// The file's object; empty when it is missing or is none.
nlohmann::json read(const fs::path& file) {
  std::ifstream stream(file);
  nlohmann::json known = nlohmann::json::parse(stream, nullptr, false);
  return known.is_object() ? known : nlohmann::json::object();
}

std::optional<std::int64_t> overhead_in(const nlohmann::json& known, const Card& card) {
  const auto found = known.find(key_of(card));
  if (found == known.end() || !found->is_number_integer()) return std::nullopt;
  const auto bytes = found->get<std::int64_t>();
  if (bytes <= 0 || bytes > card.memory_bytes) return std::nullopt;
  return bytes;
}

}  // namespace

fs::path known_cards_file() {
  const char* const cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && *cache != '\0') return fs::path(cache) / "snug" / "cards.json";
  const char* const home = std::getenv("HOME");
  if (home == nullptr || *home == '\0') return {};
  return fs::path(home) / ".cache" / "snug" / "cards.json";
}

std::optional<std::int64_t> remembered_overhead(const fs::path& file, const Card& card) {
  if (file.empty()) return std::nullopt;
  return overhead_in(read(file), card);
}

void remember_overhead(const fs::path& file, const Card& card) {
  if (file.empty() || !card.measured) return;
  nlohmann::json known = read(file);
  const auto before = overhead_in(known, card);
  if (before && *before <= card.overhead_bytes) return;
  known[key_of(card)] = card.overhead_bytes;
  std::error_code failed;
  fs::create_directories(file.parent_path(), failed);
  fs::path aside = file;
  aside += ".new";
  std::ofstream stream(aside);
  stream << known.dump(2) << '\n';
  stream.close();
  if (stream) fs::rename(aside, file, failed);
}

}  // namespace snug::cuda
