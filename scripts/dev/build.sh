# shellcheck shell=bash
# Configuring and building a preset; the demo and the benchmark that run the program.

# configure PRESET [CMAKE ARGS]
configure() {
  local preset=$1 launcher=()
  shift
  if command -v ccache >/dev/null; then
    launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
    # Paths are hashed relative to the clone, so that another clone finds the same objects.
    export CCACHE_BASEDIR="$root" CCACHE_NOHASHDIR=1
  fi
  # A build folder that was copied or moved here would build somewhere else.
  local cache="$root/build/$preset/CMakeCache.txt"
  if [ -e "$cache" ] && ! grep -q -x -F "CMAKE_HOME_DIRECTORY:INTERNAL=$root" "$cache"; then
    rm -rf "${root:?}/build/$preset"
  fi
  cmake --preset "$preset" ${launcher[@]+"${launcher[@]}"} "$@"
}

build_preset() {
  local preset=$1
  shift
  configure "$preset" && cmake --build "$root/build/$preset" --parallel "$(build_jobs)" "$@"
}

# compile PRESET [BUILD ARGS]: the packages are there already.
compile() {
  local preset=$1
  shift
  need_disk 2 "building"
  quietly "build-$preset" "building $preset" build_preset "$preset" "$@" || exit 1
}

command_build() {
  local preset=release targets=() groups=(build) archs=$cuda_all_archs
  while [ $# -gt 0 ]; do
    case $1 in
      --clang) preset=clang ;;
      --cuda) preset=cuda ;;
      --arch)
        [ $# -gt 1 ] || fail "build: --arch needs a list, e.g. --arch '80;89'"
        archs=$2
        shift
        ;;
      --)
        shift
        [ $# -gt 0 ] && targets=(--target "$@")
        break
        ;;
      -*) fail "build: unknown option '$1'. Try ./dev help" ;;
      *) preset=$1 ;;
    esac
    shift
  done
  [ "$preset" = release ] || groups+=(test)
  case $preset in clang | fuzz) groups+=(clang) ;; esac
  need_packages "${groups[@]}"
  if [ "$preset" = cuda ]; then
    need_cublas
    compile_cuda "$archs" ${targets[@]+"${targets[@]}"}
  else
    compile "$preset" ${targets[@]+"${targets[@]}"}
  fi
  if [ -e "build/$preset/snug" ]; then
    say "the program: build/$preset/snug"
  fi
}

command_demo() {
  need_packages build
  compile release
  exec "$root/build/release/snug" demo "$@"
}

command_bench() {
  need_packages build
  need_parity
  compile release
  compile bench --target triad
  venv_python "$root/scripts/bench.py" --snug "$root/build/release/snug" --triad "$root/build/bench/bench/triad" "$@"
}

command_memory() {
  need_packages build
  compile release
  python3 "$root/scripts/memory_table.py" --snug "$root/build/release/snug" "$@"
}

command_process_memory() {
  need_packages build
  compile release
  python3 "$root/scripts/process_memory.py" "$root/build/release/snug" "$@"
}

command_quality() {
  need_packages build
  compile release
  python3 "$root/scripts/quality.py" --snug "$root/build/release/snug" "$@"
}

command_start() {
  need_packages build
  compile release
  python3 "$root/scripts/start_time.py" --snug "$root/build/release/snug" "$@"
}

# With --out NAME the table goes to docs/results/DATE-NAME.md.
command_plan_speed() {
  local name="" status=0 table
  case ${1:-} in
    --out) name=${2:?"--out NAME"} ;;
    "") ;;
    *) fail "plan-speed: '$1' is not an option" ;;
  esac
  need_packages build
  compile bench --target plan_bench
  table=$("$root/build/bench/bench/plan_bench") || status=$?
  say "$table"
  [ -n "$name" ] || return "$status"
  {
    printf '# Planning: processor seconds\n\n`./dev plan-speed`, %s, commit %s, %s.\n' "$(date +%F)" \
      "$(git -C "$root" rev-parse --short HEAD)" "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)"
    printf 'The best of five runs of one core each; the kernels and their scratch are those of the CPU back end with AMX.\n\n%s\n' "$table"
  } >"$root/docs/results/$(date +%F)-$name.md"
  return "$status"
}
