#!/usr/bin/env bash
# keep_usage.sh COMPILER... -o OBJECT ...: runs it and keeps what ptxas says of its kernels in OBJECT.usage.
set -uo pipefail
object=
for ((i = 1; i < $#; ++i)); do
  next=$((i + 1))
  if [ "${!i}" = -o ]; then object=${!next}; fi
done
[ -n "$object" ] || exec "$@"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
"$@" 2>"$log"
status=$?
pattern='^ptxas info|bytes stack frame'
grep -E "$pattern" "$log" >"$object.usage"
grep -v -E "$pattern" "$log" >&2
exit "$status"
