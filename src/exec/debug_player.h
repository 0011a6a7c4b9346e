#pragma once
// Plays a program one instruction after the other and watches every byte. For tests: each
// instruction costs several passes over the arenas.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/function_ref.h"
#include "exec/sequence.h"

namespace snug {

struct DebugOptions {
  /// Each instruction runs twice, over different garbage. InternalError when a byte outside its
  /// outputs and scratch changes, when a byte of an output is not written, or when results depend
  /// on what outputs and scratch held before.
  bool watch_writes = false;
  /// Bytes that hold nothing alive are set to 0xff: not a number in every float type, -1 in others.
  bool poison_dead = false;
  bool any() const { return watch_writes || poison_dead; }
};

class DebugPlayer {
 public:
  DebugPlayer(const Plan& plan, const Arenas& arenas, DebugOptions options);

  /// Plays in list order; `run` executes one step. `operands` is Sequence::step's.
  void play(const Sequence& sequence, std::int32_t program, std::span<Operand> operands,
            FunctionRef<void(const Step&)> run);

 private:
  using Bytes = std::array<std::vector<std::byte>, kSpaces>;
  /// What an instruction may do to a byte.
  enum class Rule : std::uint8_t { keep, write, update, scratch };
  using Rules = std::array<std::vector<Rule>, kSpaces>;

  void poison_all_but_held(std::int32_t program);
  void poison_after(const Step& step, std::int32_t program);
  void poison(Space space, std::int64_t offset, std::int64_t bytes);

  void watch(const Step& step, std::int32_t program, FunctionRef<void(const Step&)> run);
  void set_rules(const Step& step, std::int32_t program);
  void mark(const Operand& operand, Space space, Rule rule);
  void fill(Rule rule, std::byte with);
  void copy_from_arenas(Bytes& to) const;
  void restore(const Bytes& from) const;
  void compare(const Step& step, std::int32_t program) const;
  std::span<std::byte> arena(std::size_t space) const { return arenas_.spaces[space].span(); }

  const Plan& plan_;
  const Arenas& arenas_;
  DebugOptions options_;
  Rules rules_;
  Bytes before_;
  Bytes first_run_;
};

}  // namespace snug
