# shellcheck shell=bash
# System packages: what is missing is found by looking for the thing itself, and installed with apt-get.

# One line a thing: Debian package, how to look for it, what to look for, lowest version of a tool.
package_table() {
  case $1 in
    build) cat <<'TABLE'
g++ tool g++ 12
cmake tool cmake 3.25
ninja-build tool ninja 1.10
pkg-config tool pkg-config 0
libhwy-dev header hwy/highway.h
nlohmann-json3-dev header nlohmann/json.hpp
libfmt-dev header fmt/format.h
libyaml-cpp-dev header yaml-cpp/yaml.h
libpcre2-dev header pcre2posix.h
libutf8proc-dev header utf8proc.h
libxxhash-dev header xxhash.h
zlib1g-dev header zlib.h
libzstd-dev header zstd.h
python3-jinja2 anymodule jinja2
TABLE
      ;;
    test) cat <<'TABLE'
libgtest-dev header gtest/gtest.h
libgmock-dev header gmock/gmock.h
git tool git 0
TABLE
      ;;
    python) cat <<'TABLE'
python3 tool python3 3.10
python3-venv module ensurepip
python3-dev pyheader Python.h
TABLE
      ;;
    clang) cat <<'TABLE'
clang-19 tool clang++-19 19
libclang-rt-19-dev file /usr/lib/llvm-19/lib/clang/19/lib/linux/libclang_rt.fuzzer-x86_64.a
llvm-19 file /usr/lib/llvm-19/bin/llvm-symbolizer
TABLE
      ;;
  esac
}

tool_version() {
  case $1 in
    g++ | clang++-19) "$1" -dumpfullversion -dumpversion ;;
    *) "$1" --version ;;
  esac 2>/dev/null | grep -m 1 -o -E '[0-9]+(\.[0-9]+)*' | head -n 1
}

has_header() {
  command -v g++ >/dev/null &&
    printf '#if !__has_include(<%s>)\n#error\n#endif\n' "$1" | g++ -E -x c++ - >/dev/null 2>&1
}

# has_package KIND WHAT VERSION
has_package() {
  case $1 in
    tool) command -v "$2" >/dev/null && version_at_least "$(tool_version "$2")" "$3" ;;
    header) has_header "$2" ;;
    module) python3 -c "import $2" 2>/dev/null ;;
    # Of any python3 that snug looks at: a package's module is the system's, which may not be the first on the PATH.
    anymodule) python3 -c "import $2" 2>/dev/null || /usr/bin/python3 -c "import $2" 2>/dev/null ;;
    pyheader) python3 -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], sys.argv[1])))' "$2" 2>/dev/null ;;
    file) [ -e "$2" ] ;;
  esac
}

missing_packages() {
  local group package kind what version
  for group in "$@"; do
    while read -r package kind what version; do
      has_package "$kind" "$what" "$version" || echo "$package"
    done < <(package_table "$group")
  done
}

distribution() {
  # shellcheck source=/dev/null
  (. /etc/os-release 2>/dev/null && echo "${ID:-unknown}-${VERSION_ID:-}") || echo unknown
}

# How this process may install: empty (root), "sudo", or status 1.
install_prefix() {
  if [ "$(id -u)" = 0 ]; then
    return 0
  fi
  command -v sudo >/dev/null || return 1
  if can_ask || sudo -n true 2>/dev/null; then
    echo sudo
  else
    return 1
  fi
}

have_package_lists() { compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null; }

# The list lock has no time-out of its own in apt-get, so a held one is retried for 10 minutes.
update_lists() {
  local tries=0 output
  until output=$("$@" apt-get update 2>&1); do
    printf '%s\n' "$output"
    case $output in
      *"Could not get lock"*) ;;
      *) return 1 ;;
    esac
    tries=$((tries + 1))
    [ "$tries" -lt 120 ] || return 1
    sleep 5
  done
  printf '%s\n' "$output"
}

# apt_install PREFIX PACKAGE...: PREFIX is empty or sudo. Old or empty lists are fetched anew.
apt_install() {
  local prefix=()
  [ -n "$1" ] && prefix=("$1")
  shift
  local install=(${prefix[@]+"${prefix[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get
    -o DPkg::Lock::Timeout=600 install -y --no-install-recommends "$@")
  have_package_lists || update_lists ${prefix[@]+"${prefix[@]}"} || return
  "${install[@]}" && return
  update_lists ${prefix[@]+"${prefix[@]}"} && "${install[@]}"
}

# need_packages GROUP...: returns when everything is there, else installs it or says how.
need_packages() {
  local missing prefix system answer
  missing=$(missing_packages "$@" | tr '\n' ' ')
  missing=${missing% }
  [ -z "$missing" ] && return
  system=$(distribution)
  [ "$(uname -m)" = x86_64 ] || fail "snug runs on x86-64; this is $(uname -m)"
  case $system in
    debian-12 | ubuntu-24.04) ;;
    *) refuse_system "$system" "$@" ;;
  esac
  say "missing packages: $missing"
  if ! prefix=$(install_prefix); then
    say "this needs root. Run:"
    say "  sudo apt-get update && sudo apt-get install -y $missing"
    exit 1
  fi
  if can_ask; then
    read -r -p "install them with ${prefix:+$prefix }apt-get? [Y/n] " answer
    case $answer in
      "" | [Yy]*) ;;
      *) fail "nothing installed. By hand: ${prefix:+$prefix }apt-get install -y $missing" ;;
    esac
  fi
  # A password is asked for here, in sight, not behind the progress line.
  [ -z "$prefix" ] || sudo -v
  need_disk 3 "installing packages"
  # shellcheck disable=SC2086
  quietly packages "installing packages" apt_install "$prefix" $missing || exit 1
  hash -r
  missing=$(missing_packages "$@" | tr '\n' ' ')
  [ -z "$missing" ] || fail "installed, yet still not found: $missing"
}

# Elsewhere nothing is installed: what is missing is named with the version it needs.
refuse_system() {
  local system=$1 group package kind what version
  shift
  say "./dev installs packages on Debian 12 and Ubuntu 24.04; this is $system. Missing here (by their Debian names):"
  for group in "$@"; do
    while read -r package kind what version; do
      has_package "$kind" "$what" "$version" && continue
      case $kind in
        tool) say "  $package: $what ${version/#0/of any version}$(command -v "$what" >/dev/null && echo " or later; found $(tool_version "$what")")" ;;
        *) say "  $package: $what" ;;
      esac
    done < <(package_table "$group")
  done
  exit 1
}
