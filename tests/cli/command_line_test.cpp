// The grammar of the command line, exit statuses, errors as JSON, and help.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <new>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/help.h"
#include "cli/verbs.h"
#include "core/error.h"

namespace snug {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::StartsWith;

/// Prints what it was given.
int run_probe(const Command& command, Console& console) {
  for (const std::string& word : command.words) console.out << "word " << word << "\n";
  console.out << repro_line(command.verb, command.settings) << "\n";
  if (command.settings.bench.batch == 1) throw DoesNotFit("does not fit: needs 9.81 GiB.");
  if (command.settings.bench.batch == 2) throw std::bad_alloc();
  if (command.settings.bench.batch == 3) internal_error("a broken promise");
  return command.settings.bench.batch == 5 ? kInterrupted : kDone;
}

const std::vector<Verb>& verbs() {
  static const std::vector<Verb> all = {{.name = "probe",
                                         .usage = "step [config.yaml] [key=value ...]",
                                         .sentence = "Shows what it was given.",
                                         .groups = {Group::data, Group::bench},
                                         .words = {"step"},
                                         .run = run_probe},
                                        verb_table().back()};
  return all;
}

struct Result {
  int status = 0;
  std::string out;
  std::string talk;
};

Result snug(const std::vector<std::string>& arguments) {
  std::ostringstream out;
  std::ostringstream talk;
  Console console{out, talk};
  const int status = run_snug(arguments, verbs(), console);
  return {status, out.str(), talk.str()};
}

/// A config file that goes away with the test.
class CommandLineTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = std::filesystem::temp_directory_path() /
            ("snug_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()) +
             ".yaml");
    std::ofstream(path_) << "seed: 7\nlr: 1e-4\n";
  }
  void TearDown() override { std::filesystem::remove(path_); }
  std::filesystem::path path_;
};

TEST_F(CommandLineTest, AllSpellingsMeanTheSame) {
  const std::string expected = "snug probe bf16=true learning_rate=0.0002 seed=7\n";
  const std::string config = path_.string();
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"probe", config, "learning_rate=2e-4", "bf16=true"},
        {"probe", "learning_rate=2e-4", "--bf16", "--seed", "7"},
        {"probe", "--learning_rate", "2e-4", config, "--bf16=true"},
        {"probe", "--bf16", config, "--learning-rate=2e-4"},
        {"probe", "--bf16", "lr=9", "lr=2e-4", "seed=7"},
        {"probe", "--bf16", "true", "lr=2e-4", "seed=7"},
        {"probe", "--config", config, "--bf16", "lr=2e-4"},
        {"probe", "--config=" + config, "--bf16", "lr=2e-4"},
        {"probe", "config=" + config, "--bf16", "lr=2e-4"}}) {
    const Result result = snug(words);
    EXPECT_EQ(result.status, kDone) << result.talk;
    EXPECT_EQ(result.out, expected);
  }
}

TEST_F(CommandLineTest, WordsOfTheVerbAreKept) {
  EXPECT_THAT(snug({"probe", "step", "batch=4"}).out, StartsWith("word step\n"));
  EXPECT_THAT(snug({"probe", "stop"}).talk,
              HasSubstr("'stop' is neither a setting (key=value) nor a config file (.yaml, .yml, "
                        ".json) nor one of step."));
}

TEST_F(CommandLineTest, RefusesWhatItDoesNotKnow) {
  EXPECT_EQ(snug({"prob"}).talk, "command line: 'prob' is no verb. Did you mean probe?\n");
  EXPECT_EQ(snug({"probe", "--learning_rte=1"}).talk,
            "command line: unknown key 'learning_rte'. Did you mean learning_rate?\n");
  EXPECT_EQ(snug({"probe", "--sede"}).talk,
            "command line: unknown key 'sede'. Did you mean seed?\n");
  EXPECT_EQ(snug({"probe", "--seed"}).talk,
            "command line: --seed needs a value: --seed VALUE or seed=VALUE.\n");
  EXPECT_EQ(snug({"probe", "-x"}).talk,
            "command line: '-x' is no option. Settings are key=value or --key value.\n");
  EXPECT_THAT(snug({"probe", "a.yaml"}).talk, StartsWith("a.yaml: cannot be opened"));
  EXPECT_THAT(snug({"probe", path_.string(), path_.string()}).talk, HasSubstr("two config files"));
  EXPECT_EQ(snug({"probe", "--sede"}).status, kUserError);
  EXPECT_EQ(snug({}).status, kUserError);
}

TEST_F(CommandLineTest, AllErrorsAtOnce) {
  std::ofstream(path_) << "seed: x\nmodle: a\nlora_r: 8\n";
  const Result result = snug({"probe", "nonsense", path_.string(), "-x", "--learning_rte=1",
                              "device_memory=8G", "batch_size=3", "global_batch_size=16"});
  EXPECT_EQ(result.status, kUserError);
  std::vector<std::string> starts = {"command line: 'nonsense' is neither",
                                     "command line: '-x' is no option",
                                     path_.string() + ":2: unknown key 'modle'",
                                     "command line: unknown key 'learning_rte'",
                                     path_.string() + ":1: seed is x",
                                     "command line: device_memory is 8G",
                                     path_.string() + ":3: lora_r=8 has no effect",
                                     "global_batch_size=16 is not per_device_train_batch_size=3"};
  std::istringstream lines(result.talk);
  for (const std::string& start : starts) {
    std::string line;
    std::getline(lines, line);
    EXPECT_THAT(line, StartsWith(start));
  }
  EXPECT_EQ(lines.peek(), EOF);
}

TEST_F(CommandLineTest, WordsThatFitNowhereAreAnsweredWithWhatWasMeant) {
  EXPECT_THAT(snug({"probe", "seed", "7"}).talk, HasSubstr("Did you mean seed=VALUE?"));
  EXPECT_THAT(snug({"probe", "model.gguf"}).talk, HasSubstr("Did you mean model=model.gguf?"));
  EXPECT_THAT(snug({"probe", path_.parent_path().string()}).talk, HasSubstr("Did you mean model="));
  EXPECT_THAT(snug({"probe", "--config"}).talk, HasSubstr("--config needs a value"));
}

TEST_F(CommandLineTest, KeysOfOtherVerbsAreNoted) {
  EXPECT_EQ(snug({"probe", "kernels=true"}).talk,
            "command line: kernels has no effect in `snug probe`; it is a key of explain.\n");
  std::ofstream(path_) << "kernels: true\n";
  EXPECT_EQ(snug({"probe", path_.string()}).talk, "");
}

/// Takes so many bytes and then none.
class FullBuffer : public std::stringbuf {
 public:
  explicit FullBuffer(std::streamsize room) : room_(room) {}

 protected:
  std::streamsize xsputn(const char*, std::streamsize count) override {
    const std::streamsize taken = std::min(count, room_);
    room_ -= taken;
    return taken;
  }
  int_type overflow(int_type) override { return traits_type::eof(); }

 private:
  std::streamsize room_;
};

TEST_F(CommandLineTest, OutputThatIsLostIsAnError) {
  for (const std::vector<std::string>& words : {std::vector<std::string>{"probe"},
                                                {"help"},
                                                {"--version"},
                                                {"probe", "--help"},
                                                {"probe", "--json", "seed=x"}}) {
    FullBuffer buffer(5);
    std::ostream out(&buffer);
    std::ostringstream talk;
    Console console{out, talk};
    EXPECT_EQ(run_snug(words, verbs(), console), kUserError);
    EXPECT_THAT(talk.str(), HasSubstr("standard output could not be written"));
  }
}

TEST_F(CommandLineTest, ExitStatusSaysWhatHappened) {
  EXPECT_EQ(snug({"probe"}).status, kDone);
  EXPECT_EQ(snug({"probe", "batch=1"}).status, kDoesNotFit);
  EXPECT_EQ(snug({"probe", "batch=2"}).status, kInternalError);
  EXPECT_EQ(snug({"probe", "batch=3"}).status, kInternalError);
  EXPECT_EQ(snug({"probe", "batch=5"}).status, kInterrupted);
}

TEST_F(CommandLineTest, ErrorsAreAlsoJson) {
  const Result result = snug({"probe", "step", "seed=x", "--json"});
  EXPECT_EQ(result.talk, "command line: seed is x, expected a whole number of at least 0.\n");
  const json expected = {{"schema", 1},
                         {"error",
                          {{"kind", "user"},
                           {"message",
                            "command line: seed is x, expected a whole number of at "
                            "least 0."}}}};
  EXPECT_EQ(json::parse(result.out), expected);
  const std::string out = snug({"probe", "--json", "batch=1"}).out;
  EXPECT_EQ(json::parse(out.substr(out.find('{')))["error"]["kind"], "does_not_fit");
  EXPECT_TRUE(json::accept(snug({"probe", "--json", "\xff=1"}).out));
}

TEST_F(CommandLineTest, KeysWithoutEffectAreNotedOnStderr) {
  const Result result = snug({"probe", "--dataloader_num_workers", "4"});
  EXPECT_EQ(result.status, kDone);
  EXPECT_THAT(result.talk, StartsWith("command line: dataloader_num_workers has no effect here"));
  EXPECT_EQ(result.out, "snug probe\n");
}

TEST(Help, ExplainsVerbsKeysAndTheirAliases) {
  EXPECT_THAT(snug({"--help"}).out, HasSubstr("  probe step [config.yaml]"));
  EXPECT_THAT(snug({"help"}).out, HasSubstr("\n  help [VERB"));
  const std::string verb = snug({"probe", "--help"}).out;
  EXPECT_THAT(verb, HasSubstr("\nbench step\n  shape"));
  EXPECT_THAT(verb, testing::Not(HasSubstr("learning_rate")));
  EXPECT_EQ(snug({"help", "lr"}).out, snug({"help", "learning_rate"}).out);
  EXPECT_THAT(snug({"help", "neftune_noise_alpha"}).out, HasSubstr("not in this version"));
  EXPECT_EQ(snug({"help", "learnig_rate"}).talk,
            "'learnig_rate' is neither a verb nor a setting. Did you mean learning_rate?\n");
  EXPECT_EQ(snug({"--version"}).out, "snug " SNUG_VERSION "\n");
}

TEST(Help, OfARunIsShortAndAllIsLong) {
  const std::string brief = help_for("train", verb_table(), Terminal{});
  EXPECT_LT(std::count(brief.begin(), brief.end(), '\n'), 80);
  EXPECT_THAT(brief, HasSubstr("`snug help all` lists every key"));
  EXPECT_THAT(brief, HasSubstr("  3 does not fit"));
  EXPECT_THAT(brief, testing::Not(HasSubstr("adam_beta1")));
  EXPECT_THAT(snug({"help"}).out, HasSubstr("\nExit status\n  0 done."));
  const std::string all = help_for("all", verb_table(), Terminal{});
  for (const Row& row : settings_table()) {
    EXPECT_THAT(all, HasSubstr(fmt::format("\n  {}", row.key)));
  }
  EXPECT_THAT(help_for("lora_r", verb_table(), Terminal{}),
              HasSubstr("Has an effect only with finetuning_type=lora."));
}

TEST(Help, WrapsToTheTerminalAndIsPlainElsewhere) {
  for (const int width : {40, 80, 120}) {
    std::istringstream lines(help_for("all", verbs(), Terminal{.width = width}));
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      int count = 0;
      for (std::string word; words >> word;) ++count;
      // Only a single word may be longer than the line; `·` is two bytes in one column.
      EXPECT_TRUE(count <= 1 || static_cast<int>(line.size()) <= width + 2) << line;
    }
  }
  EXPECT_EQ(wrapped("one two three", 2, 9), "  one two\n  three\n");
  EXPECT_EQ(wrapped("", 2, 9), "");
  EXPECT_EQ((Terminal{.color = true}.bold("x")), "\x1b[1mx\x1b[0m");
  EXPECT_EQ(snug({"help", "all"}).out.find('\x1b'), std::string::npos);
}

TEST(Help, DefaultsPageIsCurrent) {
  const auto root = std::filesystem::path(SNUG_TEST_DATA).parent_path().parent_path();
  std::ifstream file(root / "docs" / "defaults.md");
  std::stringstream page;
  page << file.rdbuf();
  EXPECT_TRUE(page.str() == defaults_markdown())
      << "docs/defaults.md is old: run snug help --defaults-markdown > docs/defaults.md";
}

}  // namespace
}  // namespace snug
