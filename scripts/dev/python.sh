# shellcheck shell=bash
# Python packages live in build/venv and nowhere else.

# Called through `python -m`, because a script's first line cannot name an interpreter whose path has a space.
venv_python() { "$root/build/venv/bin/python" "$@"; }

# A CPU build of torch is asked for first, so that no CUDA libraries come along where there is a choice.
install_torch() {
  local version
  version=$(sed -n 's/^torch==//p' "$1")
  [ -z "$version" ] && return
  venv_python -c 'import importlib.metadata as m, sys
sys.exit(m.version("torch").split("+")[0] != sys.argv[1])' "$version" 2>/dev/null && return
  venv_python -m pip install "torch==$version+cpu" || venv_python -m pip install "torch==$version"
}

install_requirements() { install_torch "$1" && venv_python -m pip install -r "$1"; }

# need_python REQUIREMENTS.txt: build/venv holds what the file pins; does nothing, and needs no network, once it does.
need_python() {
  local file=$1 stamp
  stamp="$root/build/venv/installed-$(sha256sum "$file" | cut -c 1-16)"
  [ -e "$stamp" ] && venv_python -c '' 2>/dev/null && return
  need_packages python
  if ! venv_python -c '' 2>/dev/null; then
    quietly venv "making build/venv" python3 -m venv --clear "$root/build/venv" || exit 1
  fi
  grep -q '^torch==' "$file" && need_disk 4 "installing ${file#"$root"/}"
  quietly pip "installing ${file#"$root"/}" install_requirements "$file" || exit 1
  touch "$stamp"
}

need_tools() { need_python "$root/scripts/requirements.txt"; }
need_parity() { need_python "$root/tests/parity/requirements.txt"; }

# The wheels' own binaries: their start scripts would need a path without spaces.
wheel_binary() {
  local path
  path=$(compgen -G "$root/build/venv/lib/python3*/site-packages/${1//-/_}/data/bin/$1" | head -n 1)
  [ -n "$path" ] || fail "build/venv has no $1; remove build/venv and run again"
  echo "$path"
}
