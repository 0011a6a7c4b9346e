// Updates: golden numbers of the packages, and the CPU's bits against the reference's.

#include "backend/cpu/update.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "backend/cpu/cpu_backend.h"
#include "backend/reference/reference.h"
#include "backend/update_testing.h"
#include "core/dynamic_map.h"

namespace snug::testing {
namespace {

Attributes adam(double weight_decay) {
  return {{"beta1", 0.9}, {"beta2", 0.999}, {"eps", 1e-8}, {"weight_decay", weight_decay}};
}

Attributes adafactor(const char* form, double eps1, bool scaled, double weight_decay) {
  return {{"form", form},
          {"eps1", eps1},
          {"eps2", 1e-3},
          {"clip_threshold", 1.0},
          {"scale_parameter", std::int64_t{scaled ? 1 : 0}},
          {"weight_decay", weight_decay}};
}

/// Two steps on both back ends: p = (1, -2; .5, .25), gradients (.1, -.2; .3, .4) and
/// (-.05, .1; .2, -.4). `scalars` gives the rule's own for update t.
void expect_golden(const UpdateCase& c, double lr, const std::vector<double>& want,
                   const std::function<std::vector<double>(double t)>& scalars) {
  const ReferenceBackend reference;
  const CpuBackend cpu;
  for (const KernelSource* source :
       {static_cast<const KernelSource*>(&reference), static_cast<const KernelSource*>(&cpu)}) {
    UpdateRun run(c);
    run.set(kUpdateWeight, {1, -2, .5, .25});
    run.set(kUpdateRate, {lr});
    for (const int t : {1, 2}) {
      run.set(kUpdateGradient, t == 1 ? std::vector<double>{.1, -.2, .3, .4}
                                      : std::vector<double>{-.05, .1, .2, -.4});
      const auto values = scalars(t);
      for (std::size_t i = 0; i < values.size(); ++i) run.set_scalar(i, values[i]);
      run.run(*source, 1);
    }
    const auto p = run.get(kUpdateWeight);
    // fp32 numbers of size 2 after two steps of a few operations each.
    for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(p[i], want[i], 4e-7) << i;
  }
}

Shape square() { return {2, 2}; }
TensorType plain_square() { return {DType::f32, square()}; }
TensorType two() { return {DType::f32, {2}}; }

std::vector<double> corrections(double t) { return {1 - std::pow(0.9, t), 1 - std::pow(0.999, t)}; }

TEST(Updates, AdamWGivesTorchsNumbers) {
  expect_golden({.op = Op::adamw,
                 .attributes = adam(0.1),
                 .shape = square(),
                 .states = {plain_square(), plain_square()},
                 .scalars = 2},
                0.1, {.85446631, -1.8345663, .29401479, .15128816}, corrections);
}

TEST(Updates, LionGivesBitsandbytesNumbers) {
  expect_golden({.op = Op::lion,
                 .attributes = {{"beta1", 0.9}, {"beta2", 0.99}, {"weight_decay", 0.1}},
                 .shape = square(),
                 .states = {plain_square()}},
                0.01, {.99801105, -1.99601209, .47901052, .24951026},
                [](double) { return std::vector<double>{}; });
}

UpdateCase adafactor_case(const Attributes& attributes) {
  return {.op = Op::adafactor,
          .attributes = attributes,
          .shape = square(),
          .states = {two(), two()},
          .scalars = 2};
}

TEST(Updates, AdafactorGivesTransformersNumbers) {
  // With relative steps, as the class' defaults are.
  expect_golden(adafactor_case(adafactor("transformers", 1e-30, true, 0)), 0,
                {.99761547, -1.99529629, .47863821, .25007108}, [](double t) {
                  return std::vector<double>{std::min(1e-2, 1 / std::sqrt(t)), std::pow(t, -0.8)};
                });
  expect_golden(adafactor_case(adafactor("transformers", 1e-30, false, 0.1)), 0.1,
                {.96064573, -1.92103989, .30506522, .2474243},
                [](double t) { return std::vector<double>{0.1, std::pow(t, -0.8)}; });
}

TEST(Updates, AdafactorGivesTorchsNumbers) {
  expect_golden(adafactor_case(adafactor("torch", 0x1p-52, true, 0)), 0.01,
                {.99761547, -1.99529629, .47863821, .25007108},
                [](double t) { return std::vector<double>{0.01, std::pow(t, -0.8)}; });
  expect_golden(adafactor_case(adafactor("torch", 0x1p-52, true, 0.1)), 0.1,
                {.9517943, -1.90794435, .28530906, .2375676},
                [](double t) { return std::vector<double>{0.1, std::pow(t, -0.8)}; });
}

TEST(Updates, SgdGivesTorchsNumbers) {
  // torch.optim.SGD(lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True) in fp64.
  expect_golden(
      {.op = Op::sgd_momentum,
       .attributes = {{"momentum", 0.9}, {"nesterov", std::int64_t{1}}, {"weight_decay", 0.1}},
       .shape = square(),
       .states = {plain_square()}},
      0.1, {0.937022, -1.874044, 0.3589135, 0.20760925},
      [](double) { return std::vector<double>{}; });
  expect_golden({.op = Op::sgd, .attributes = {{"weight_decay", 0.1}}, .shape = square()}, 0.1,
                {0.9752, -1.9504, 0.44035, 0.245425}, [](double) { return std::vector<double>{}; });
}

/// All updates whose arithmetic is fixed to the bit.
std::vector<UpdateCase> exact_cases(const Shape& shape) {
  const TensorType plain{DType::f32, shape};
  const TensorType narrow{DType::bf16, shape};
  const Attributes lion{{"beta1", 0.9}, {"beta2", 0.99}, {"weight_decay", 0.1}};
  std::vector<UpdateCase> rules{
      {.op = Op::adamw, .attributes = adam(0.1), .states = {plain, plain}, .scalars = 2},
      {.op = Op::adamw, .attributes = adam(0.1), .states = {narrow, narrow}, .scalars = 2},
      {.op = Op::lion, .attributes = lion, .states = {plain}},
      {.op = Op::lion_8bit, .attributes = lion, .states = {codes_of(shape), absmax_of(shape)}},
      {.op = Op::sgd, .attributes = {{"weight_decay", 0.1}}},
      {.op = Op::sgd_momentum,
       .attributes = {{"momentum", 0.9}, {"nesterov", std::int64_t{0}}, {"weight_decay", 0.1}},
       .states = {plain}}};
  for (const std::int64_t root : {0, 1}) {
    Attributes attributes = adam(0.1);
    attributes.set("root", root);
    rules.push_back(
        {.op = Op::adamw_8bit,
         .attributes = attributes,
         .states = {codes_of(shape), absmax_of(shape), codes_of(shape), absmax_of(shape)},
         .scalars = 2});
  }
  std::vector<UpdateCase> cases;
  for (const UpdateCase& rule : rules) {
    for (const DType gradient : {DType::bf16, DType::f32}) {
      for (int kind = 0; kind < 5; ++kind) {
        UpdateCase c = rule;
        c.shape = shape;
        c.gradient = gradient;
        c.weight = kind == 0 ? DType::f32 : DType::bf16;
        c.master = kind == 1 || kind == 4;
        c.stochastic = kind == 2 || kind == 4;
        if (c.stochastic) {
          c.attributes.set("seed", std::int64_t{5});
          c.attributes.set("stream", std::int64_t{6});
        }
        cases.push_back(c);
      }
    }
  }
  return cases;
}

std::vector<double> normals(std::int64_t count, std::uint64_t seed, double scale) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal(0, scale);
  std::vector<double> values;
  for (std::int64_t i = 0; i < count; ++i) {
    // Now and then nothing, or something tiny: signs and zeros are where codes differ.
    const double value = normal(random);
    values.push_back(i % 17 == 3 ? 0.0 : i % 23 == 5 ? value * 1e-6 : value);
  }
  return values;
}

/// Weights and states after three steps with random gradients.
std::vector<std::vector<double>> after_three_steps(const UpdateCase& c, const KernelSource& source,
                                                   int threads, double apply = 1) {
  UpdateRun run(c);
  const std::int64_t count = c.shape.elements();
  run.set(kUpdateWeight, normals(count, 1, 1));
  if (c.master) run.set(kUpdateMaster, normals(count, 1, 1));
  run.set(kUpdateRate, {0.01});
  run.set(kUpdateClip, {0.37});
  run.set(kUpdateApply, {apply});
  for (const std::uint64_t t : {1, 2, 3}) {
    run.set(kUpdateGradient, normals(count, 10 + t, 0.1));
    if (c.scalars == 2) {
      run.set_scalar(0, 1 - std::pow(0.9, t));
      run.set_scalar(1, 1 - std::pow(0.999, t));
    }
    run.run(source, threads);
  }
  return run.results();
}

TEST(Updates, HaveTheBitsOfTheReference) {
  const ReferenceBackend reference;
  const CpuBackend cpu;
  for (const Shape& shape : {Shape{1}, Shape{31}, Shape{3, 85}, Shape{130, 300}}) {
    for (const UpdateCase& c : exact_cases(shape)) {
      const auto expected = after_three_steps(c, reference, 1);
      for (const int threads : {1, 3}) {
        ASSERT_EQ(after_three_steps(c, cpu, threads), expected)
            << op_def(c.op).name << shape.to_string() << (c.master ? " master" : "")
            << (c.stochastic ? " stochastic" : "");
      }
    }
  }
}

TEST(Updates, ASkippedStepChangesNothing) {
  const ReferenceBackend reference;
  const CpuBackend cpu;
  const Shape shape{3, 85};
  auto cases = exact_cases(shape);
  UpdateCase factored = adafactor_case(adafactor("torch", 0x1p-23, true, 0.1));
  factored.shape = shape;
  factored.states = {{DType::f32, {3}}, {DType::f32, {85}}};
  cases.push_back(factored);
  for (const UpdateCase& c : cases) {
    const UpdateRun untouched(c);
    const auto results = after_three_steps(c, cpu, 2, 0);
    EXPECT_EQ(results, after_three_steps(c, reference, 1, 0)) << op_def(c.op).name;
    for (std::size_t i = 0; i < c.states.size(); ++i) {
      EXPECT_EQ(results[2 + i], untouched.get(kUpdateStates + i)) << op_def(c.op).name;
    }
  }
}

// A tensor updated in two pieces has the bits of one update.
TEST(Updates, PiecesHaveTheBitsOfTheWhole) {
  const RandomStream stream{.seed = 3, .stream = 4, .step = 5};
  constexpr std::int64_t kCount = 1000;
  const float lr = 0.01F;
  const float correction = 0.1F;
  ThreadPool pool(1);
  const auto updated = [&](const std::vector<std::int64_t>& borders) {
    Guarded<BFloat16> weight(kCount), gradient(kCount);
    Guarded<float> m(kCount), v(kCount);
    fill_normal(weight, 1);
    fill_normal(gradient, 2);
    for (std::int64_t i = 0; i < kCount; ++i) m[i] = v[i] = 0;
    for (std::size_t k = 1; k < borders.size(); ++k) {
      const std::int64_t begin = borders[k - 1];
      adamw({.count = borders[k] - begin,
             .weight = weight.data() + begin,
             .gradient = gradient.data() + begin,
             .lr = &lr,
             .rounding = &stream,
             .first_element = 77 + static_cast<std::uint64_t>(begin)},
            {.correction1 = &correction, .correction2 = &correction},
            {DType::f32, m.data() + begin, v.data() + begin}, pool);
    }
    return weight;
  };
  EXPECT_TRUE(updated({0, kCount}).same_bits(updated({0, 333, kCount})));
}

// Every code's value is stored as that code, what lies between as the nearest.
TEST(CodedStates, KeepEveryEntryOfTheMaps) {
  const CpuBackend cpu;
  const Shape shape{257};
  // beta2 = 0 makes the state the gradient itself.
  UpdateCase c{.op = Op::lion_8bit,
               .attributes = {{"beta1", 0.0}, {"beta2", 0.0}, {"weight_decay", 0.0}},
               .shape = shape,
               .states = {codes_of(shape), absmax_of(shape)}};
  UpdateRun run(c);
  std::vector<double> values;
  for (const float value : signed_dynamic_map()) values.push_back(static_cast<double>(value) * 4);
  values.push_back(-3.0);
  run.set(kUpdateWeight, std::vector<double>(257, 0.0));
  run.set(kUpdateGradient, values);
  run.run(cpu, 1);
  const auto codes = run.get(kUpdateStates);
  for (int i = 0; i < 256; ++i) EXPECT_EQ(codes[static_cast<std::size_t>(i)], i);
  EXPECT_THAT(run.get(kUpdateStates + 1), ::testing::ElementsAre(4.0, 3.0));
  EXPECT_EQ(codes[256], 0);  // -1 is no entry: the lowest is -0.993
}

TEST(CodedStates, WhatIsBelowZeroStaysBelowZero) {
  const CpuBackend cpu;
  const Shape shape{4};
  UpdateCase c{.op = Op::lion_8bit,
               .attributes = {{"beta1", 0.0}, {"beta2", 0.0}, {"weight_decay", 0.0}},
               .shape = shape,
               .states = {codes_of(shape), absmax_of(shape)}};
  UpdateRun run(c);
  run.set(kUpdateWeight, {0, 0, 0, 0});
  run.set(kUpdateGradient, {1, -1e-9, 1e-9, 0});
  run.run(cpu, 1);
  EXPECT_THAT(run.get(kUpdateStates), ::testing::ElementsAre(255, 126, 127, 127));
}

}  // namespace
}  // namespace snug::testing
