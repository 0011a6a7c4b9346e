// Any text as one row of any layout, with its conversations taken apart.
#include "data/json_scan.h"
#include "data/rows.h"
#include "fuzz.h"

namespace {

void require_messages(const snug::ChatRow& chat) {
  snug::require(!chat.messages.empty());
  for (const snug::ChatMessage& message : chat.messages) {
    bool role = false;
    for (const auto& [name, value] : snug::json_members(message.json, "message")) {
      role = role || name == "role";
    }
    snug::require(role);
  }
}

void require_tokens(const snug::TokenRow& row) {
  snug::require(row.ids.size() == row.labels.size());
  std::int32_t before = -1;
  for (const std::int32_t begin : row.documents) {
    snug::require(begin > before && begin < static_cast<std::int32_t>(row.ids.size()));
    before = begin;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  snug::DataSettings settings;
  settings.train_on = static_cast<snug::TrainOn>(data[0] % 6);
  snug::accepted([&] {
    const snug::DataRow row = snug::parse_row(snug::text_of(data + 1, size - 1), "row", settings);
    if (const auto* chat = std::get_if<snug::ChatRow>(&row.content)) require_messages(*chat);
    if (const auto* tokens = std::get_if<snug::TokenRow>(&row.content)) require_tokens(*tokens);
  });
  return 0;
}
