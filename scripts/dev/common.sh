# shellcheck shell=bash
# Messages, quiet steps behind one progress line, and the machine's limits.

say() { printf '%s\n' "$*" >&2; }

fail() {
  say "dev: $*"
  exit 1
}

on_terminal() { [ -t 2 ] && [ "${TERM:-dumb}" != dumb ]; }

# can_ask: whether a person can answer a question.
can_ask() { [ "$assume_yes" = 0 ] && [ -t 0 ] && [ -t 2 ]; }

# The newest line worth showing of a log: ninja's "[12/340] ..." or any last line, cut to the terminal.
last_line() {
  local columns=$2 line
  line=$(tail -c 2000 "$1" 2>/dev/null | tr '\r' '\n' | grep -v '^[[:space:]]*$' | tail -n 1) || true
  printf '%s' "${line:0:columns}"
}

# What a failed step's log has to say: its tail, without what ninja and ctest say of each success.
log_tail() {
  grep -v -E '^\[[0-9]+/[0-9]+\] |^ +Start +[0-9]+: |^ *[0-9]+/[0-9]+ Test +#.* Passed +[0-9.]+ sec$' "$1" |
    tail -n 60 || true
}

# end_tree PID: ends a process and all that it started.
end_tree() {
  local child
  for child in $(cat /proc/"$1"/task/*/children 2>/dev/null); do
    end_tree "$child"
  done
  kill "$1" 2>/dev/null || true
}

# quietly LOGNAME WHAT COMMAND...: runs COMMAND with its output in build/log/LOGNAME.log behind one progress
# line; on failure prints the log's tail and returns the command's status.
quietly() {
  local log="$root/build/log/$1.log" what=$2 status=0 start=$SECONDS told_lock=0 columns
  shift 2
  mkdir -p "$root/build/log"
  : >"$log"
  columns=$(tput cols 2>/dev/null || echo 80)
  columns=$((columns - ${#what} - 4))
  on_terminal || say "$what ..."
  "$@" >>"$log" 2>&1 </dev/null &
  local pid=$!
  # An interrupted dev leaves nothing running behind it.
  trap 'end_tree '"$pid"'; exit 130' INT TERM
  while kill -0 "$pid" 2>/dev/null; do
    if [ "$told_lock" = 0 ] && grep -q -i -E 'waiting for cache lock|could not get lock' "$log"; then
      told_lock=1
      say "another program holds the package lock; waiting for it, 10 minutes at most"
    fi
    if on_terminal && [ "$columns" -gt 0 ]; then
      printf '\r\033[K%s  %s' "$what" "$(last_line "$log" "$columns")" >&2
    fi
    sleep 0.3
  done
  wait "$pid" || status=$?
  trap - INT TERM
  on_terminal && printf '\r\033[K' >&2
  if [ "$status" = 0 ]; then
    say "$what: done in $((SECONDS - start)) s"
  else
    log_tail "$log" >&2
    say "$what: failed with status $status; the whole log: ${log#"$root"/}"
  fi
  return "$status"
}

# Memory that a build may use, in KiB: what is available, and what the control group leaves.
available_memory_kib() {
  local free max current left
  free=$(awk '$1 == "MemAvailable:" { print $2 }' /proc/meminfo)
  max=$(cat /sys/fs/cgroup/memory.max 2>/dev/null || echo max)
  current=$(cat /sys/fs/cgroup/memory.current 2>/dev/null || echo 0)
  if [ "$max" != max ]; then
    left=$(((max - current) / 1024))
    [ "$left" -lt "$free" ] && free=$left
  fi
  echo "$free"
}

# Cores by affinity and by the control group's quota.
usable_cores() {
  local cores quota period
  cores=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc)
  if read -r quota period 2>/dev/null </sys/fs/cgroup/cpu.max && [ "$quota" != max ]; then
    quota=$(((quota + period - 1) / period))
    [ "$quota" -lt "$cores" ] && cores=$quota
  fi
  echo "$cores"
}

# Parallel compiler jobs: one a core, and 1.5 GiB of memory for each.
build_jobs() {
  local cores by_memory
  cores=$(usable_cores)
  by_memory=$(($(available_memory_kib) / (1536 * 1024)))
  [ "$by_memory" -lt "$cores" ] && cores=$by_memory
  [ "$cores" -lt 1 ] && cores=1
  echo "$cores"
}

# need_disk GIB WHY
need_disk() {
  local free
  free=$(df -Pk "$root" | awk 'NR == 2 { print $4 }')
  [ "$free" -ge $(($1 * 1024 * 1024)) ] ||
    fail "$2 needs $1 GiB of free disk, $(df -Ph "$root" | awk 'NR == 2 { print $4 " is free on " $6 }')"
}

# version_at_least HAVE WANT
version_at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }
