# shellcheck shell=bash
# Plain text about this machine, for bug reports. Installs and changes nothing.

row() { printf '%-12s %s\n' "$1" "$2"; }

# macro_version HEADER A B C: versions are preprocessor constants in the libraries' headers.
macro_version() {
  local header=$1 text
  shift
  text=$(printf '#include <%s>\nVERSION %s\n' "$header" "$*" | g++ -E -P -x c++ - 2>/dev/null |
    sed -n 's/^VERSION //p' | tail -n 1)
  text=${text//\"/}
  echo "${text// /.}"
}

library_row() {
  local version
  version=$(macro_version "${@:2}")
  row "$1" "${version:-missing}"
}

tool_row() {
  local version=missing
  command -v "$2" >/dev/null && version=$(tool_version "$2")
  row "$1" "$version"
}

cpu_features() {
  local flag found=''
  for flag in avx2 fma f16c avx512f avx512bw avx512vl avx512_vnni avx512_bf16 avx512_fp16 amx_tile amx_bf16 amx_int8; do
    cpu_has "$flag" && found="$found $flag"
  done
  echo "${found# }"
}

command_doctor() {
  local feature_list
  # shellcheck source=/dev/null
  row system "$(. /etc/os-release 2>/dev/null && echo "${PRETTY_NAME:-unknown}"), Linux $(uname -r), $(uname -m)"
  case $(distribution) in
    debian-12 | ubuntu-24.04) ;;
    *) row "" "not one of the supported systems (Debian 12, Ubuntu 24.04)" ;;
  esac
  row snug "$(git describe --always --dirty 2>/dev/null || echo 'not a git clone')"
  row CPU "$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1)"
  feature_list=$(cpu_features)
  row features "${feature_list:-none of those snug uses}"
  case " $feature_list " in *" avx2 "*) ;; *) row "" "snug needs AVX2" ;; esac
  row cores "$(nproc --all) in all, $(usable_cores) usable, control group quota $(cut -d ' ' -f 1 /sys/fs/cgroup/cpu.max 2>/dev/null || echo none)"
  row memory "$(awk '$1 == "MemTotal:" { printf "%.1f GiB", $2 / 1048576 }' /proc/meminfo) in all, $(available_memory_kib | awk '{ printf "%.1f GiB", $1 / 1048576 }') available, control group limit $(cat /sys/fs/cgroup/memory.max 2>/dev/null || echo none), overcommit $(cat /proc/sys/vm/overcommit_memory 2>/dev/null || echo unknown)"
  row limits "locked memory $(ulimit -l) KiB, address space $(ulimit -v)"
  row disk "$(df -Ph "$root" | awk 'NR == 2 { print $4 " free on " $1 }')"
  row jobs "$(build_jobs)"
  tool_row g++ g++
  tool_row clang++ clang++-19
  tool_row cmake cmake
  tool_row ninja ninja
  tool_row ccache ccache
  tool_row python3 python3
  library_row Highway hwy/highway.h HWY_MAJOR HWY_MINOR HWY_PATCH
  library_row fmt fmt/core.h FMT_VERSION
  library_row json nlohmann/json.hpp NLOHMANN_JSON_VERSION_MAJOR NLOHMANN_JSON_VERSION_MINOR NLOHMANN_JSON_VERSION_PATCH
  row yaml-cpp "$(pkg-config --modversion yaml-cpp 2>/dev/null || echo missing)"
  row PCRE2 "$(pkg-config --modversion libpcre2-8 2>/dev/null || echo missing)"
  row gtest "$(pkg-config --modversion gtest 2>/dev/null || echo missing)"
  row torch "$(venv_python -c 'import importlib.metadata as m; print(m.version("torch"))' 2>/dev/null || echo 'not in build/venv')"
  row missing "$(missing_packages build test python | tr '\n' ' ')"
}
