# shellcheck shell=bash
# ./dev gguf: exported models in llama.cpp itself. Apart from ./dev test, because llama.cpp is compiled first.

need_llama_cpp() {
  local file="$root/tests/gguf/requirements.txt" stamp
  stamp="$root/build/venv/installed-$(sha256sum "$file" | cut -c 1-16)"
  [ -e "$stamp" ] && return
  need_packages build python
  need_disk 2 "building llama.cpp"
  # For any CPU from AVX2 up, as snug itself.
  CMAKE_ARGS="-DGGML_NATIVE=OFF" CMAKE_BUILD_PARALLEL_LEVEL=$(build_jobs) \
    quietly llama-cpp "building llama.cpp (tens of minutes on two cores)" venv_python -m pip install -r "$file" || exit 1
  touch "$stamp"
}

run_gguf() { SNUG_BUILD="$root/build/dev" venv_python -m pytest -ra tests/gguf "$@"; }

command_gguf() {
  need_packages build test python
  need_parity
  need_llama_cpp
  compile dev --target snug
  quietly gguf "exported models in llama.cpp" run_gguf "$@" || return 1
  tail -n 1 "$root/build/log/gguf.log"
}
