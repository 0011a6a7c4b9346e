#!/usr/bin/env bash
# Tests and measures snug on the NVIDIA card of this machine. Needs the driver, and for the comparison Python with
# torch, transformers and peft; cuBLAS from the machine or from torch's packages. Writes results.json and results.md
# here, part by part; `./run.sh --parts kernels,techniques` runs some.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

if ! command -v nvidia-smi >/dev/null || ! nvidia-smi -L >/dev/null 2>&1; then
  echo "run.sh: no NVIDIA card is visible on this machine (nvidia-smi lists none). Run it where there is one." >&2
  exit 2
fi
command -v python3 >/dev/null || {
  echo "run.sh: python3 is missing; the suite is driven by it." >&2
  exit 2
}
exec python3 run.py "$@"
