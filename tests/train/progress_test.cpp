#include "train/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "core/text.h"

namespace snug {
namespace {

using testing::EndsWith;
using testing::StartsWith;

ProgressLine some_line() {
  return {.step = 120,
          .steps = 186,
          .loss = 1.2839,
          .learning_rate = 1.1e-5,
          .grad_norm = 0.71,
          .tokens_per_second = 312,
          .used_bytes = 6668000000,
          .planned_bytes = 6668000000,
          .seconds_left = 252};
}

TEST(Progress, SaysAllWhereThereIsRoom) {
  EXPECT_EQ(format_progress(some_line()),
            "step 120/186 · loss 1.284 · lr 1.1e-05 · |g| 0.71 · 312 tok/s · 6.21/6.21 GiB · "
            "eta 4:12");
  EXPECT_EQ(fitted_progress(some_line(), 200), format_progress(some_line()));
  EXPECT_EQ(folded_progress(some_line(), 200), format_progress(some_line()));
}

TEST(Progress, FitsAnyWidthAndLosesTheLeastImportantFirst) {
  const ProgressLine line = some_line();
  for (int columns = 1; columns <= 120; ++columns) {
    const std::string text = fitted_progress(line, columns);
    EXPECT_LE(display_columns(text), columns) << text;
    EXPECT_THAT(format_progress(line), StartsWith(text.substr(0, 12)));
    std::istringstream folded(folded_progress(line, columns));
    for (std::string part; columns >= 18 && std::getline(folded, part);) {
      EXPECT_LE(display_columns(part), columns) << part;
    }
  }
  EXPECT_EQ(fitted_progress(line, 79),
            "step 120/186 · loss 1.284 · lr 1.1e-05 · 312 tok/s · 6.21/6.21 GiB · eta 4:12");
  EXPECT_EQ(fitted_progress(line, 39), "step 120/186 · loss 1.284 · eta 4:12");
  EXPECT_EQ(fitted_progress(line, 7), "step 12");
  EXPECT_EQ(folded_progress(line, 39),
            "step 120/186 · loss 1.284 · lr 1.1e-05\n  |g| 0.71 · 312 tok/s · 6.21/6.21 GiB\n"
            "  eta 4:12");
}

TEST(Progress, WithoutATerminalOnlyLogsAndWithoutControlCharacters) {
  std::ostringstream out;
  {
    Progress progress({out});
    progress.show(some_line(), false);
    progress.show(some_line(), true);
    out << "a word\n";
  }
  EXPECT_EQ(out.str(), format_progress(some_line()) + "\na word\n");
}

TEST(Progress, OnATerminalWhatIsWrittenClearsTheStatusAndStays) {
  std::ostringstream out;
  {
    Progress progress({out, 1'000'000});  // no file: 80 columns are taken
    progress.show(some_line(), false);
    EXPECT_THAT(out.str(), StartsWith("\r\x1b[J" + fitted_progress(some_line(), 79) + "\r"));
    out << "a word\n";
    EXPECT_THAT(out.str(), EndsWith("\r\r\x1b[Ja word\n"));
    progress.show(some_line(), false);
    EXPECT_THAT(out.str(), EndsWith("a word\n")) << "at most five a second";
    progress.show(some_line(), true);
    EXPECT_THAT(out.str(), EndsWith("a word\n" + folded_progress(some_line(), 79) + "\n"));
    out.setstate(std::ios::failbit);
  }
  EXPECT_TRUE(out.fail()) << "the stream's state is its own";
  out.clear();
  out << "after";
  EXPECT_THAT(out.str(), EndsWith("\nafter"));
}

}  // namespace
}  // namespace snug
