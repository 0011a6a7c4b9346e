// What ptxas made of the kernels, against what they declare: registers, spills, shared memory.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <string>

#include "backend/cuda/blocks.h"

namespace snug::cuda {
namespace {

namespace fs = std::filesystem;

int number(const std::string& line, const char* pattern) {
  std::smatch found;
  return std::regex_search(line, found, std::regex(pattern)) ? std::stoi(found[1]) : 0;
}

/// Checks one file; returns the number of kernels in it.
int check_usage(const fs::path& file) {
  const bool flash = file.filename().string().starts_with("flash_");
  const BlockNeeds needs = flash ? flash_block(kFlashWidest) : kPlainBlock;
  std::ifstream lines(file);
  std::string kernel;
  int kernels = 0;
  for (std::string line; std::getline(lines, line);) {
    if (const auto at = line.find("entry function '"); at != std::string::npos) {
      kernel = line.substr(at);
      ++kernels;
    }
    EXPECT_LE(number(line, "(\\d+) bytes spill stores"), needs.spilled_bytes) << kernel;
    EXPECT_LE(number(line, "Used (\\d+) registers"), needs.registers) << kernel;
    EXPECT_LE(number(line, "(\\d+) bytes smem"), needs.shared_bytes) << kernel;
  }
  return kernels;
}

TEST(CudaUsage, IsWhatKernelsDeclare) {
  if (!fs::exists(SNUG_BUILD_FOLDER))
    GTEST_SKIP() << "what ptxas said lies in the build folder, and " << SNUG_BUILD_FOLDER
                 << " is not on this machine";
  int kernels = 0;
  for (const auto& entry : fs::recursive_directory_iterator(SNUG_BUILD_FOLDER)) {
    if (entry.path().extension() == ".usage") kernels += check_usage(entry.path());
  }
  EXPECT_GE(kernels, 80);
}

}  // namespace
}  // namespace snug::cuda
