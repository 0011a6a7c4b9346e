// Drives the tokenizer for the Python suite: one JSON request a line in, one answer a line out.
//   tokenize_tool TOKENIZER_JSON            {"text": ...} or {"bytes": [...]}, "special": bool
//                                           {"ids": [...], "skip": bool}
//   tokenize_tool TOKENIZER_JSON --bench FILE    MB/s of one core over the lines of FILE
#include <ctime>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "data/tokenizer/tokenizer.h"

namespace {

using nlohmann::json;

// Of this process: other work on the machine counts little.
double cpu_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

json answer(const snug::Tokenizer& tokenizer, const json& request) {
  if (request.contains("ids")) {
    const auto ids = request["ids"].get<std::vector<int32_t>>();
    const bool skip = request["skip"];
    snug::StreamDecoder stream(tokenizer, skip);
    json pieces = json::array();
    for (const int32_t id : ids) pieces.push_back(stream.push(id));
    pieces.push_back(stream.finish());
    return {{"text", tokenizer.decode(ids, skip)}, {"pieces", pieces}};
  }
  std::string text;
  if (request.contains("bytes")) {
    for (const int byte : request["bytes"]) text.push_back(static_cast<char>(byte));
  } else {
    text = request["text"];
  }
  return {{"ids", tokenizer.encode(text, request["special"])}};
}

void bench(const snug::Tokenizer& tokenizer, const char* path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  size_t bytes = 0;
  for (std::string line; std::getline(file, line); bytes += line.size()) lines.push_back(line);
  for (int round = 0; round < 5; ++round) {
    const double start = cpu_seconds();
    size_t tokens = 0;
    for (const std::string& line : lines) tokens += tokenizer.encode(line, false).size();
    const double taken = cpu_seconds() - start;
    std::cout << fmt::format("{} bytes, {} tokens, {:.3f} s, {:.1f} MB/s\n", bytes, tokens, taken,
                             static_cast<double>(bytes) / 1e6 / taken);
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc < 2) snug::user_error("usage: tokenize_tool TOKENIZER_JSON [--bench FILE]");
    const double start = cpu_seconds();
    const auto tokenizer = snug::Tokenizer::from_file(argv[1]);
    const double taken = cpu_seconds() - start;
    if (argc == 4 && std::string_view(argv[2]) == "--bench") {
      std::cout << fmt::format("loaded in {:.3f} s\n", taken);
      bench(tokenizer, argv[3]);
      return 0;
    }
    for (std::string line; std::getline(std::cin, line);) {
      std::cout << answer(tokenizer, json::parse(line)).dump() << '\n' << std::flush;
    }
  } catch (const snug::UserError& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
  return 0;
}
