// Every pair of techniques, and 200 larger sets from a fixed seed, on a small model. A set is held
// to the run of its `changed` members alone: bit-equal when the others are exact, within the bound
// when one is reordered. Runs of `changed` members are held to the plain run's curve. What cannot
// work together is refused before memory is reserved, with a way out.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "core/error.h"
#include "io/safetensors.h"
#include "matrix/techniques.h"
#include "support/tiny_model.h"
#include "train/trainer.h"

namespace snug {
namespace {

namespace fs = std::filesystem;
using testing::Technique;

using Set = std::vector<std::size_t>;  // of techniques, ascending

struct Outcome {
  std::vector<double> losses;
  std::map<std::string, std::vector<std::byte>> tensors;  // what the run saved
  std::string refusal;                                    // why it did not run
};

// Every step sees all rows, so that those who form micro-batches in another way sum the same.
constexpr int kRows = 8;
constexpr double kLabels = 148 - 3 * kRows;  // of a step: 3 tokens of each row are ignored

class Matrix : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::remove_all(folder_);
    testing::write_tiny_model(folder_ / "model");
    testing::write_tiny_rows(folder_ / "rows.jsonl", kRows);
  }
  void TearDown() override { fs::remove_all(folder_); }

  const Outcome& outcome(const Set& set) {
    const auto known = outcomes_.find(set);
    if (known != outcomes_.end()) return known->second;
    return outcomes_[set] = run(set);
  }

  std::string name_of_set(const Set& set) const {
    std::string name;
    for (const std::size_t t : set) name += (name.empty() ? "" : " + ") + std::string(all_[t].name);
    return name.empty() ? "plain" : name;
  }

  bool compatible(const Set& set) const {
    for (std::size_t i = 0; i < set.size(); ++i) {
      for (std::size_t j = i + 1; j < set.size(); ++j) {
        if (std::string_view(all_[set[i]].kind) == all_[set[j]].kind) return false;
      }
    }
    return true;
  }

  /// Compares a set with what it is declared to equal; the cell of the printed matrix: `=`
  /// bit-equal,
  /// `~` reordered within the bound, `c` on the curve, `r` refused.
  char check_set(const Set& set) {
    const Outcome& got = outcome(set);
    if (!got.refusal.empty()) {
      EXPECT_NE(got.refusal.find("earest"), std::string::npos)
          << name_of_set(set) << ": no way out in: " << got.refusal;
      return 'r';
    }
    Set changed;
    bool reordered = false;
    double noise = 1e-5;
    for (const std::size_t t : set) {
      noise = std::max(noise, all_[t].noise);
      if (all_[t].equality == Equality::reordered) reordered = true;
      if (all_[t].equality != Equality::changed) continue;
      changed.push_back(t);
    }
    if (changed == set) return check_curve(set);
    const Outcome& want = outcome(changed);
    EXPECT_TRUE(want.refusal.empty())
        << name_of_set(set) << " runs, but not " << name_of_set(changed) << ": " << want.refusal;
    if (!reordered) {
      EXPECT_EQ(got.losses, want.losses) << name_of_set(set);
      EXPECT_TRUE(got.tensors == want.tensors) << name_of_set(set) << ": saved tensors differ";
      return '=';
    }
    double moved = 0;  // by all updates so far, up and down
    for (std::size_t i = 0; i < want.losses.size(); ++i) {
      if (i > 0) moved += std::abs(want.losses[i] - want.losses[i - 1]);
      const double forward = i == 0 ? 0 : forward_of(set);  // weights are equal at first
      EXPECT_NEAR(got.losses[i], want.losses[i],
                  (noise + forward) * want.losses[i] +
                      (static_cast<double>(i) * rounding_of(set) + turned_around_of(set)) * moved)
          << name_of_set(set) << ", step " << i + 1;
    }
    return '~';
  }

  /// What forward's roundings to nearest leave of a token's loss, once weights differ at all: some
  /// ten results of each of three layers, independent of each other and of other tokens, in the
  /// mean over the labels.
  double forward_of(const Set& set) const {
    double rounding = 0;
    for (const std::size_t t : set) rounding = std::max(rounding, all_[t].rounding);
    return rounding / 2 * std::sqrt(30.0 / kLabels);
  }

  /// The share of one update that its roundings may take away or add: each part of a gradient is
  /// rounded when it is added to the others, and the weight once. To first order the updates so far
  /// differ by no more than the sum of these shares, and the loss by that share of what they moved.
  double rounding_of(const Set& set) const {
    double rounding = 0;
    int parts = 1;
    for (const std::size_t t : set) {
      rounding = std::max(rounding, all_[t].rounding);
      parts *= all_[t].parts;
    }
    // A gradient's sum over the labels in fp32, of terms that mostly cancel.
    constexpr double kSum = 0x1p-24 * kLabels;
    return rounding * (parts + 1) + kSum;
  }

  /// An update as large as the rate follows its gradient's sign, which rounding decides where the
  /// terms cancel to nothing: in a run a few elements (of 100,000 about one a step) go the other
  /// way, each by its share.
  double turned_around_of(const Set& set) const {
    double trained = testing::kModelElements;
    for (const std::size_t t : set) trained = std::min(trained, all_[t].trained);
    return 2 * 3 / trained;
  }

  /// What a curve is held to: the plain run, unless members name a technique they stand beside;
  /// then the same set with that one in their place.
  struct Curve {
    Set reference;
    double share = 0;  ///< of what the reference run moves
  };
  Curve curve_of(const Set& set) const {
    Curve plain;
    Curve beside;
    for (const std::size_t t : set) {
      plain.share += all_[t].curve;
      std::size_t member = t;
      if (all_[t].reference != nullptr) {
        const auto named = std::find_if(all_.begin(), all_.end(), [&](const Technique& other) {
          return std::string_view(other.name) == all_[t].reference;
        });
        member = static_cast<std::size_t>(named - all_.begin());
        beside.share += all_[t].curve;
      }
      beside.reference.push_back(member);
    }
    std::sort(beside.reference.begin(), beside.reference.end());
    return beside.share > 0 ? beside : plain;
  }

  char check_curve(const Set& set) {
    const Curve curve = curve_of(set);
    const Outcome& reference = outcome(curve.reference);
    const Outcome& got = outcome(set);
    double moved = 0;
    for (const double loss : reference.losses) {
      moved = std::max(moved, std::abs(loss - reference.losses.front()));
    }
    // Several that are trained at rates of their own: together they must not diverge.
    const double slack = set.size() == 1 ? 1.0 : 1.1;
    EXPECT_LT(got.losses.back(), slack * got.losses.front())
        << name_of_set(set) << " does not learn";
    const double start = std::abs(got.losses.front() - reference.losses.front());
    EXPECT_NEAR(got.losses.back(), reference.losses.back(), curve.share * moved + start)
        << name_of_set(set) << " beside " << name_of_set(curve.reference);
    return 'c';
  }

  Outcome run(const Set& set) {
    const fs::path output = folder_ / "run";
    fs::remove_all(output);
    std::map<std::string, std::string> keys = {{"model", (folder_ / "model").string()},
                                               {"data", (folder_ / "rows.jsonl").string()},
                                               {"output_dir", output.string()},
                                               {"bf16", "false"},
                                               {"learning_rate", "3e-3"},
                                               {"lr_scheduler_type", "constant"},
                                               {"max_steps", "6"},
                                               {"max_grad_norm", "0"},
                                               {"save_strategy", "no"},
                                               {"global_batch_size", std::to_string(kRows)},
                                               {"gradient_accumulation_steps", "1"},
                                               {"activation_checkpointing", "false"}};
    bool rate_is_set = false;
    for (const std::size_t t : set) {
      for (const std::string setting : all_[t].settings) {
        const auto equals = setting.find('=');
        const std::string key = setting.substr(0, equals);
        const std::string value = setting.substr(equals + 1);
        // Of two rates the smaller one.
        const bool rate = key == "learning_rate" && rate_is_set;
        if (!rate || std::stod(value) < std::stod(keys[key])) keys[key] = value;
        rate_is_set = rate_is_set || key == "learning_rate";
      }
    }
    std::vector<Assignment> assignments;
    for (const auto& [key, value] : keys) assignments.push_back(from_command_line(key, value));
    std::ostringstream talk;
    Outcome result;
    try {
      Trainer trainer(make_settings(assignments), {talk, false});
      const TrainResult trained = trainer.run();
      // A short length may need more than the longest under a limit of activations; where no batch
      // of it came, what was planned for those that came is used.
      EXPECT_EQ(trained.used_peak_bytes, trained.played_peak_bytes) << name_of_set(set);
      if (trained.absent_lengths.empty()) {
        EXPECT_EQ(trained.used_peak_bytes, trained.planned_peak_bytes) << name_of_set(set);
      }
    } catch (const UserError& error) {
      EXPECT_FALSE(fs::exists(output / "metrics.jsonl")) << name_of_set(set) << " began to run";
      result.refusal = error.what();
      return result;
    }
    std::ifstream metrics(output / "metrics.jsonl");
    for (std::string line; std::getline(metrics, line);) {
      result.losses.push_back(nlohmann::json::parse(line).at("loss").get<double>());
    }
    for (const auto& entry : fs::directory_iterator(output)) {
      if (entry.path().extension() != ".safetensors") continue;
      const SafetensorsFile file(entry.path());
      for (const TensorView& view : file.tensors()) {
        result.tensors[view.name].assign(view.bytes.begin(), view.bytes.end());
      }
    }
    return result;
  }

  /// The matrix as a Markdown table, columns by the rows' numbers.
  std::string markdown(const std::vector<std::string>& cells) const {
    std::string head = "| | technique | class |";
    std::string rule = "|--:|---|---|";
    std::string rows;
    for (std::size_t i = 0; i < all_.size(); ++i) {
      head += fmt::format(" {} |", i + 1);
      rule += ":-:|";
      rows += fmt::format("| {} | {} | {} |", i + 1, all_[i].name, class_of(all_[i]));
      for (const char cell : cells[i]) rows += fmt::format(" {} |", cell == '.' ? ' ' : cell);
      rows += "\n";
    }
    return head + "\n" + rule + "\n" + rows;
  }

  static const char* class_of(const Technique& technique) {
    switch (technique.equality) {
      case Equality::exact:
        return "exact";
      case Equality::reordered:
        return "reordered";
      case Equality::changed:
        return "changed";
    }
    return "";
  }

  /// docs/techniques.md holds the matrix; SNUG_UPDATE_GOLDEN=1 writes it there.
  static void check_page(const std::string& matrix) {
    constexpr std::string_view kBegin = "<!-- matrix -->\n";
    constexpr std::string_view kEnd = "<!-- end of matrix -->\n";
    const fs::path page =
        fs::path(SNUG_TEST_DATA).parent_path().parent_path() / "docs" / "techniques.md";
    std::stringstream read;
    read << std::ifstream(page).rdbuf();
    const std::string text = read.str();
    const std::size_t begin = text.find(kBegin);
    const std::size_t end = text.find(kEnd);
    ASSERT_TRUE(begin < end && end != std::string::npos) << page << " has no place for the matrix";
    const std::size_t from = begin + kBegin.size();
    if (std::getenv("SNUG_UPDATE_GOLDEN") != nullptr) {
      std::ofstream(page) << text.substr(0, from) << matrix << text.substr(end);
    }
    EXPECT_EQ(text.substr(from, end - from), matrix)
        << page << " shows another matrix; SNUG_UPDATE_GOLDEN=1 writes this one";
  }

  const fs::path folder_ =
      fs::path(::testing::TempDir()) / fmt::format("snug_technique_matrix_{}", getpid());
  const std::vector<Technique> all_ = testing::techniques();
  std::map<Set, Outcome> outcomes_;
};

TEST_F(Matrix, EveryPairAndLargerSets) {
  const std::size_t count = all_.size();
  std::vector<std::string> cells(count, std::string(count, '.'));
  for (std::size_t i = 0; i < count; ++i) {
    cells[i][i] = check_set({i});
    for (std::size_t j = i + 1; j < count; ++j) {
      if (compatible({i, j})) cells[j][i] = cells[i][j] = check_set({i, j});
    }
  }
  for (std::size_t i = 0; i < count; ++i) std::printf("%-24s %s\n", all_[i].name, cells[i].c_str());
  std::mt19937 random(20);
  constexpr int kSets = 200;
  int ran = 0;
  std::map<char, int> tally;
  for (int attempt = 0; ran < kSets && attempt < 100 * kSets; ++attempt) {
    Set set;
    for (std::size_t t = 0; t < count; ++t) {
      if (random() % 4 == 0 && compatible([&] {
            Set s = set;
            s.push_back(t);
            return s;
          }()))
        set.push_back(t);
    }
    if (set.size() < 3) continue;
    ++ran;
    ++tally[check_set(set)];
  }
  EXPECT_EQ(ran, kSets);
  const std::string sets =
      fmt::format("{} larger sets: {} bit-equal, {} reordered, {} changed, {} refused", ran,
                  tally['='], tally['~'], tally['c'], tally['r']);
  std::printf("%s\n", sets.c_str());
  check_page(markdown(cells) + "\n" + sets + ".\n");
}

}  // namespace
}  // namespace snug
