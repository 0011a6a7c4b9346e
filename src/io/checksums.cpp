#include "io/checksums.h"

#include <xxhash.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/error.h"
#include "core/json.h"
#include "core/text.h"
#include "io/file.h"

namespace snug {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr const char* kAlgorithm = "xxh3_64";

FileChecksums parse_file(const Json& json) {
  FileChecksums sums{.bytes = json.at("bytes").get<std::int64_t>(), .blocks = {}};
  for (const Json& block : json.at("blocks")) {
    const auto& text = block.get_ref<const std::string&>();
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
    if (error != std::errc() || end != text.data() + text.size()) {
      user_error("'{}' is no checksum", text);
    }
    sums.blocks.push_back(value);
  }
  return sums;
}

void verify_file(const fs::path& path, const FileChecksums& expected) {
  const MappedFile file(path);
  const std::span<const std::byte> bytes = file.bytes();
  const auto size = static_cast<std::int64_t>(bytes.size());
  if (size != expected.bytes) {
    user_error("{}: {} bytes, {} were written. The file was changed or cut off.", path.string(),
               group_digits(size), group_digits(expected.bytes));
  }
  const auto blocks = static_cast<std::int64_t>(expected.blocks.size());
  if (blocks != (size + kChecksumBlock - 1) / kChecksumBlock) {
    user_error("{}: {} checksums for {} bytes.", path.string(), blocks, group_digits(size));
  }
  for (std::int64_t i = 0; i < blocks; ++i) {
    const std::int64_t begin = i * kChecksumBlock;
    const auto block =
        bytes.subspan(static_cast<std::size_t>(begin),
                      static_cast<std::size_t>(std::min(kChecksumBlock, size - begin)));
    const std::uint64_t found = XXH3_64bits(block.data(), block.size());
    file.drop_pages(block);
    if (found == expected.blocks[static_cast<std::size_t>(i)]) continue;
    user_error("{}: bytes {} to {} are not what was written (checksum {:016x}, {:016x} expected).",
               path.string(), group_digits(begin),
               group_digits(begin + static_cast<std::int64_t>(block.size())), found,
               expected.blocks[static_cast<std::size_t>(i)]);
  }
}

}  // namespace

struct BlockHasher::State {
  State() : xxh(XXH3_createState()) {
    check(xxh != nullptr && XXH3_64bits_reset(xxh) == XXH_OK, "no memory for a checksum's state");
  }
  ~State() { XXH3_freeState(xxh); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  XXH3_state_t* xxh;
};

BlockHasher::BlockHasher() : state_(std::make_unique<State>()) {}
BlockHasher::~BlockHasher() = default;

void BlockHasher::end_block() {
  sums_.blocks.push_back(XXH3_64bits_digest(state_->xxh));
  XXH3_64bits_reset(state_->xxh);
  in_block_ = 0;
}

void BlockHasher::add(std::span<const std::byte> bytes) {
  sums_.bytes += static_cast<std::int64_t>(bytes.size());
  while (!bytes.empty()) {
    const auto part =
        bytes.first(std::min(bytes.size(), static_cast<std::size_t>(kChecksumBlock - in_block_)));
    XXH3_64bits_update(state_->xxh, part.data(), part.size());
    in_block_ += static_cast<std::int64_t>(part.size());
    if (in_block_ == kChecksumBlock) end_block();
    bytes = bytes.subspan(part.size());
  }
}

FileChecksums BlockHasher::finish() {
  if (in_block_ > 0) end_block();
  return std::exchange(sums_, {});
}

std::string checksums_text(const FolderChecksums& files, const std::string& run) {
  Json json = {{"schema", 1},
               {"run", run},
               {"algorithm", kAlgorithm},
               {"block_bytes", kChecksumBlock},
               {"files", Json::object()}};
  for (const auto& [name, sums] : files) {
    Json blocks = Json::array();
    for (const std::uint64_t block : sums.blocks) blocks.push_back(fmt::format("{:016x}", block));
    json["files"][name] = {{"bytes", sums.bytes}, {"blocks", std::move(blocks)}};
  }
  return json.dump() + "\n";
}

void verify_checksums(const fs::path& folder) {
  const fs::path side = folder / kChecksumsFile;
  if (!fs::exists(side)) {
    user_error("{}: no {}, so its contents cannot be checked.", folder.string(), kChecksumsFile);
  }
  const Json json = parse_json(read_text(side), side.string());
  FolderChecksums files;
  try {
    if (json.at("algorithm") != kAlgorithm || json.at("block_bytes") != kChecksumBlock) {
      user_error("{}: checksums of another kind than {} by {} bytes.", side.string(), kAlgorithm,
                 kChecksumBlock);
    }
    for (const auto& [name, entry] : json.at("files").items()) files[name] = parse_file(entry);
  } catch (const Json::exception& error) {
    user_error("{}: {}", side.string(), error.what());
  }
  for (const auto& [name, sums] : files) verify_file(folder / name, sums);
}

std::string run_of(const fs::path& folder) {
  try {
    const Json json = parse_json(read_text(folder / kChecksumsFile), kChecksumsFile);
    return json.is_object() ? json.value("run", "") : "";
  } catch (const UserError&) {
    return "";
  } catch (const Json::exception&) {
    return "";
  }
}

}  // namespace snug
