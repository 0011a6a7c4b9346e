// Any bytes as a data file: the first says whether it is .jsonl or .json.
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "data/rows.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const auto path =
      std::filesystem::temp_directory_path() /
      ("snug_rows_fuzz." + std::to_string(getpid()) + (data[0] % 2 == 0 ? ".json" : ".jsonl"));
  std::ofstream(path, std::ios::binary) << snug::text_of(data + 1, size - 1);
  snug::accepted([&] {
    snug::read_rows({path.string()}, [&](snug::DataRow&& row) {
      snug::require(row.place.starts_with(path.string()));
      if (const auto* tokens = std::get_if<snug::TokenRow>(&row.content)) {
        snug::require(tokens->ids.size() == tokens->labels.size());
      }
    });
  });
  return 0;
}
