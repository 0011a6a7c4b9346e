# shellcheck shell=bash
# Sanitizers, fuzzers, kills, coverage and long checks.

# run_sanitized PRESET [CTEST ARGS]
run_sanitized() {
  need_packages build test
  compile "$1"
  quietly "ctest-$1" "C++ suites under $1" run_ctest "$@" || {
    ctest_summary "ctest-$1"
    return 1
  }
  ctest_summary "ctest-$1"
}

command_asan() {
  export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1:check_initialization_order=1
  export UBSAN_OPTIONS=print_stacktrace=1
  run_sanitized asan "$@"
}

# ThreadSanitizer's shadow does not fit every randomised address layout, so randomisation is off where it can be.
command_tsan() {
  if [ -z "${SNUG_FIXED_LAYOUT:-}" ] && setarch -R true 2>/dev/null; then
    SNUG_FIXED_LAYOUT=1 exec setarch -R "$root/dev" tsan "$@"
  fi
  export TSAN_OPTIONS="history_size=4:halt_on_error=0"
  run_sanitized tsan "$@"
}

# fuzz_one SECONDS PROGRAM: new inputs stay in build/fuzz/corpus; a crashing one is kept in build/fuzz/crashes.
fuzz_one() {
  local seconds=$1 program=$2 name seeds corpus
  name=$(basename "$program" _fuzz)
  corpus="$root/build/fuzz/corpus/$name"
  seeds="$root/tests/fuzz/corpus/$name"
  mkdir -p "$corpus" "$root/build/fuzz/crashes"
  local folders=("$corpus")
  [ -d "$seeds" ] && folders+=("$seeds")
  "$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="$root/build/fuzz/crashes/$name-" "${folders[@]}"
}

command_fuzz() {
  local seconds=${1:-60} only=${2:-} program name failed=() count=0
  case $seconds in "" | *[!0-9]*) fail "fuzz: '$seconds' is not a number of seconds" ;; esac
  need_packages build clang
  compile fuzz
  for program in "$root"/build/fuzz/tests/fuzz/*_fuzz; do
    [ -x "$program" ] || continue
    name=$(basename "$program" _fuzz)
    [ -z "$only" ] || [ "$only" = "$name" ] || continue
    count=$((count + 1))
    quietly "fuzz-$name" "fuzzing $name" fuzz_one "$seconds" "$program" || failed+=("$name")
  done
  [ "$count" -gt 0 ] || fail "fuzz: tests/fuzz has no fuzzer $only"
  if [ ${#failed[@]} -gt 0 ]; then
    say "fuzz: failed: ${failed[*]}; the inputs: build/fuzz/crashes, the reports: build/log/fuzz-*.log"
    return 1
  fi
  say "fuzz: $count fuzzers, $seconds s each, nothing found"
}

run_kills() {
  SNUG_KILLS=$1 SNUG_BUILD="$root/build/dev" venv_python -m pytest -q tests/parity/test_folders.py -k killed_anywhere
}

# kills [ROUNDS]: a run killed with SIGKILL at random moments and gone on with, over and over.
command_kills() {
  local rounds=${1:-300}
  case $rounds in "" | *[!0-9]*) fail "kills: '$rounds' is not a number of rounds" ;; esac
  need_packages build test python
  need_tools
  need_parity
  compile dev
  quietly kills "$rounds kills" run_kills "$rounds" || return 1
  say "kills: $rounds, one model or none each time, and the run ended with the same bits"
}

command_coverage() {
  need_packages build test python
  need_tools
  compile coverage
  find "$root/build/coverage" -name '*.gcda' -delete
  quietly ctest-coverage "C++ suites for coverage" run_ctest coverage || return 1
  venv_python -m gcovr --root "$root" --filter 'src/' --gcov-ignore-parse-errors=all -j "$(build_jobs)" \
    --txt-summary --txt "$root/build/coverage/coverage.txt" "$root/build/coverage"
  say "by file: build/coverage/coverage.txt"
}

run_plan_is_train() {
  SNUG_PLAN_IS_TRAIN=60 SNUG_BUILD="$root/build/dev" venv_python -m pytest -q tests/parity/test_plan_is_train.py "$@"
}

command_plan_is_train() {
  need_packages build test python
  need_parity
  compile dev --target snug
  run_plan_is_train "$@"
}
