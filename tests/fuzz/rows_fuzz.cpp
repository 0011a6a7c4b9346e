// Any bytes as a data file: the first says which kind of file it is.
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "data/rows.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  constexpr const char* kKinds[] = {".json", ".jsonl", ".csv", ".txt", ".jsonl.gz", ".jsonl.zst"};
  const auto path =
      std::filesystem::temp_directory_path() /
      ("snug_rows_fuzz." + std::to_string(getpid()) + kKinds[data[0] % std::size(kKinds)]);
  std::ofstream(path, std::ios::binary) << snug::text_of(data + 1, size - 1);
  snug::accepted([&] {
    snug::read_rows({path.string()}, snug::DataSettings{}, [&](snug::DataRow&& row) {
      snug::require(row.place.starts_with(path.string()));
      if (const auto* tokens = std::get_if<snug::TokenRow>(&row.content)) {
        snug::require(tokens->ids.size() == tokens->labels.size());
      }
    });
  });
  return 0;
}
