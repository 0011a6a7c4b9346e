# shellcheck shell=bash
# ./dev test: everything a change must pass, with the summaries of ctest and pytest last.

run_ctest() {
  local preset=$1
  shift
  ctest --test-dir "$root/build/$preset" --output-on-failure -j "$(build_jobs)" "$@"
}

# ctest's own closing lines, from "100% tests passed" on.
ctest_summary() {
  sed -n '/% tests passed/,$p' "$root/build/log/$1.log" | grep -v -E '^$|^Label Time|^[a-z_]+ +=|^Errors while' || true
}

# How many tests of the CUDA build there were, and how many wanted a card.
cuda_summary() {
  local log="$root/build/log/ctest-cuda.log" ran skipped
  ran=$(grep -c -E '^ *[0-9]+/[0-9]+ Test' "$log" || true)
  skipped=$(grep -c -F '***Skipped' "$log" || true)
  echo "$((ran - skipped)) tests run, $skipped skipped for want of a card or of the build folder"
  ctest_summary ctest-cuda | grep '% tests passed' || true
}

cpu_has() { grep -m 1 '^flags' /proc/cpuinfo | grep -q -w "$1"; }

# Instruction sets below this machine's own, at which the suites that depend on them are repeated.
lower_isas() {
  if cpu_has avx512f; then echo avx2; fi
  if cpu_has avx512_bf16; then echo avx512; fi
}

# Tests labelled `isa`, and those of the kernels, once more with SNUG_TEST_ISA capping what they may use.
run_capped() { SNUG_TEST_ISA=$1 run_ctest dev --no-tests=ignore -L '^(backend|isa)$'; }

run_pytest() {
  local folders=(tests/lint)
  if compgen -G 'tests/parity/test_*.py' >/dev/null || compgen -G 'tests/parity/*_test.py' >/dev/null; then
    folders+=(tests/parity)
  fi
  SNUG_BUILD="$root/build/dev" venv_python -m pytest -ra "${folders[@]}"
}

command_test() {
  [ $# -eq 0 ] || fail "test: takes no options. One C++ suite: ctest --test-dir build/dev -R NAME; one Python suite: build/venv/bin/python -m pytest FILE"
  local failed=() isa
  need_packages build test python
  need_tools
  need_parity
  quietly configure-dev "configuring dev" configure dev || exit 1
  run_lint changed || failed+=(lint)
  compile dev
  quietly ctest "C++ suites" run_ctest dev || failed+=(ctest)
  for isa in $(lower_isas); do
    quietly "ctest-$isa" "kernels and demo steps capped at $isa" run_capped "$isa" || failed+=("ctest at $isa")
  done
  if [ -n "$(find_nvcc)" ]; then
    cuda_library="$root/build/dev/libsnug_lib.a" compile_cuda "$cuda_test_arch"
    quietly ctest-cuda "the CUDA back end as far as it goes without a card" check_cuda_build || failed+=(cuda)
  fi
  quietly pytest "Python suites" run_pytest || failed+=(pytest)

  for isa in $(lower_isas); do
    echo "== capped at $isa"
    ctest_summary "ctest-$isa"
  done
  if [ -n "$(find_nvcc)" ]; then
    echo "== CUDA build"
    cuda_summary
  fi
  if [ ${#failed[@]} -gt 0 ]; then
    local IFS=,
    echo "== failed: ${failed[*]}"
  else
    echo "== lint passed"
  fi
  echo "== C++ suites"
  ctest_summary ctest
  echo "== Python suites"
  tail -n 1 "$root/build/log/pytest.log"
  [ ${#failed[@]} -eq 0 ]
}
