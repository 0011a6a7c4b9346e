#include "ir/op.h"

#include <gtest/gtest.h>

#include <set>

#include "ir/builder.h"

namespace snug {
namespace {

std::vector<Op> all_ops() {
  std::vector<Op> ops;
  for (int i = 0; i < static_cast<int>(Op::count_); ++i) ops.push_back(static_cast<Op>(i));
  return ops;
}

TEST(OpTable, EveryRowIsComplete) {
  std::set<std::string_view> names;
  for (const Op op : all_ops()) {
    const OpDef& row = op_def(op);
    SCOPED_TRACE(row.name);
    EXPECT_TRUE(names.insert(row.name).second);
    EXPECT_EQ(op_from_name(row.name), op);
    EXPECT_NE(row.infer, nullptr);
    EXPECT_NE(row.cost, nullptr);
    EXPECT_LE(row.min_outputs, row.max_outputs);
    EXPECT_TRUE(row.max_inputs < 0 || row.min_inputs <= row.max_inputs);
    for (const Aliasing& alias : row.aliasing) {
      EXPECT_LT(alias.output, row.max_outputs);
      EXPECT_LT(alias.input, row.max_inputs);
    }
  }
  EXPECT_EQ(op_from_name("no_such_op"), std::nullopt);
}

TEST(OpTable, AccumulatorsAreVersionsOfTheLastOutput) {
  for (const Op op : all_ops()) {
    const OpDef& row = op_def(op);
    if (row.accumulator < 0) continue;
    SCOPED_TRACE(row.name);
    ASSERT_EQ(row.aliasing.size(), 1U);
    EXPECT_TRUE(row.aliasing[0].must);
    EXPECT_EQ(row.aliasing[0].input, row.accumulator);
    EXPECT_EQ(row.aliasing[0].output, row.max_outputs - 1);
  }
}

}  // namespace
}  // namespace snug
