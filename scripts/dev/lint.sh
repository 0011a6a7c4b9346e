# shellcheck shell=bash
# Formatting, the gates of scripts/check_*.py, and clang-tidy.

cpp_files() {
  git ls-files -z --cached --others --exclude-standard -- '*.h' '*.cpp' '*.cu' '*.cuh' |
    while IFS= read -r -d '' file; do [ -e "$file" ] && printf '%s\0' "$file"; done
}

# Files that differ from the merge base with main, or from the last commit when this is main itself; and what is not
# committed.
changed_files() {
  local base='' branch
  for branch in origin/main main; do
    base=$(git merge-base HEAD "$branch" 2>/dev/null) && break
  done
  if [ -z "$base" ] || [ "$base" = "$(git rev-parse HEAD)" ]; then
    base=$(git rev-parse -q --verify HEAD~1 || git hash-object -t tree /dev/null)
  fi
  git diff -z --name-only --diff-filter=d "$base" --
  git ls-files -z --others --exclude-standard
}

check_format() { cpp_files | xargs -0 -r "$(wheel_binary clang-format)" --dry-run -Werror; }

run_gate() { python3 "$root/scripts/check_$1.py"; }

# tidy_files all|changed: the translation units to check; a changed header stands for a file that includes it.
tidy_files() {
  local list
  if [ "$1" = all ]; then list=cpp_files; else list=changed_files; fi
  "$list" | python3 "$root/scripts/tidy_units.py" "$root/build/dev/compile_commands.json"
}

# Compiler options that only GCC knows are no reason to fail.
run_tidy() {
  tidy_files "$1" | xargs -0 -r -n 1 -P "$(build_jobs)" \
    "$(wheel_binary clang-tidy)" --quiet -p "$root/build/dev" --extra-arg=-Wno-unknown-warning-option
}

# run_lint all|changed: needs a configured build/dev. Every gate runs; the status tells whether all passed.
run_lint() {
  local failed=() gate
  quietly format "formatting" check_format || failed+=(formatting)
  for gate in arrows sizes options text; do
    run_gate "$gate" >&2 || failed+=("$gate")
  done
  if command -v shellcheck >/dev/null; then
    quietly shellcheck "shellcheck" shellcheck -x dev .ci/run || failed+=(shellcheck)
  fi
  quietly tidy "clang-tidy, $1 files" run_tidy "$1" || failed+=(clang-tidy)
  if [ ${#failed[@]} -gt 0 ]; then
    say "lint: failed: ${failed[*]}"
    return 1
  fi
  say "lint: passed"
}

prepare_lint() {
  need_packages build test python
  need_tools
  quietly configure-dev "configuring dev" configure dev || exit 1
}

command_lint() {
  local which=changed
  case ${1:-} in
    "") ;;
    --all) which=all ;;
    *) fail "lint: unknown option '$1'. Try ./dev help" ;;
  esac
  prepare_lint
  run_lint "$which"
}

command_format() {
  need_packages python
  need_tools
  cpp_files | xargs -0 -r "$(wheel_binary clang-format)" -i
}
