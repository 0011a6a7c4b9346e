# shellcheck shell=bash
# The CUDA back end: the toolkit, the preset, and the folder that tests and measures it on a card.

# The architecture that ./dev test compiles for; ./dev build --cuda compiles for all.
cuda_test_arch=80
cuda_all_archs='80;86;89;90a;120'

# The nvcc to use: on the PATH, or where toolkits are installed. Empty when there is none.
find_nvcc() {
  command -v nvcc || compgen -G '/usr/local/cuda*/bin/nvcc' | sort -V | tail -n 1 || true
}

# need_nvcc: the toolkit must be there and new enough.
need_nvcc() {
  local nvcc version
  nvcc=$(find_nvcc)
  [ -n "$nvcc" ] || fail "no CUDA toolkit: nvcc is neither on the PATH nor under /usr/local/cuda. Install CUDA 12.4 or later."
  version=$("$nvcc" --version | sed -n 's/.*release \([0-9.]*\),.*/\1/p')
  version_at_least "$version" 12.4 || fail "$nvcc is of CUDA $version; 12.4 or later is needed."
  case $nvcc in */*) PATH="$(dirname "$nvcc"):$PATH" ;; esac
}

# Where a machine has a card and no cuBLAS, it comes from its Python package into build/cuda-wheels,
# where the programs look for it (cmake/cuda.cmake).
need_cublas() {
  local major
  command -v nvidia-smi >/dev/null || return 0
  ldconfig -p | grep -q -E 'libcublasLt\.so\.1[23]' && return 0
  [ -e build/cuda-wheels ] && return 0
  major=$(nvcc --version | sed -n 's/.*release \([0-9]*\).*/\1/p')
  local package=nvidia-cublas==13.0.2.14
  [ "$major" -ge 13 ] || package=nvidia-cublas-cu12==12.8.4.1
  quietly cublas "fetching cuBLAS for build/cuda-wheels" \
    python3 -m pip install --no-deps --target build/cuda-wheels "$package" || exit 1
}

# compile_cuda ARCHITECTURES [BUILD ARGS]; cuda_library may name the archive of a build without CUDA to link with.
compile_cuda() {
  local archs=$1 launcher=()
  shift
  need_nvcc
  if command -v ccache >/dev/null; then launcher=(-DCMAKE_CUDA_COMPILER_LAUNCHER=ccache); fi
  need_disk 3 "building with CUDA"
  quietly configure-cuda "configuring cuda" configure cuda "-DSNUG_CUDA_ARCHITECTURES=$archs" \
    "-DSNUG_LIBRARY=${cuda_library:-}" \
    ${launcher[@]+"${launcher[@]}"} || exit 1
  quietly build-cuda "building cuda for $archs" \
    cmake --build "$root/build/cuda" --parallel "$(build_jobs)" "$@" || exit 1
}

# What can be tested of the build without a card: that it links, plans, and says what is missing.
check_cuda_build() {
  local text status=0
  "$root/build/cuda/snug" plan device=cuda device_profile=rtx4090 model=shape:smol135m >/dev/null || return 1
  ctest --test-dir "$root/build/cuda" --output-on-failure || return 1
  nvidia-smi -L >/dev/null 2>&1 && return 0
  text=$("$root/build/cuda/snug" plan device=cuda model=shape:smol135m 2>&1) || status=$?
  echo "$text"
  [ "$status" = 1 ] && [[ $text == *"there is no NVIDIA driver on this machine"* ]]
}

# The programs, the libraries they need beside those of every machine, and the script that runs them.
command_gpu_bundle() {
  local folder=build/gpu-bundle file
  [ $# -eq 0 ] || fail "gpu-bundle: takes no options"
  need_packages build test
  compile_cuda "$cuda_all_archs"
  rm -rf "$folder"
  mkdir -p "$folder/lib"
  cp build/cuda/snug build/cuda/tests/cuda_test build/cuda/tests/card_speed "$folder/"
  for file in "$folder"/{snug,cuda_test,card_speed}; do
    strip "$file"
    ldd "$file" | awk '$2 == "=>" { print $3 }' |
      grep -v -E '/(libc|libm|libdl|librt|libpthread)\.so' | xargs -r -I{} cp -L -n {} "$folder/lib/"
  done
  cp scripts/gpu/run.sh scripts/gpu/run.py scripts/gpu/peer.py "$folder/"
  git rev-parse HEAD >"$folder/COMMIT"
  say "the folder: $folder ($(du -sm "$folder" | cut -f 1) MiB); on a machine with a card: $folder/run.sh"
}
