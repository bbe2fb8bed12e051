#!/usr/bin/env bash
# Runs the worker on the sample photos with the embedded queue and store, and leaves it running.
#
#   CUTOUT_DEMO_DIR=DIR   the store's folder (default: data in the checkout)
#   CUTOUT_DEMO_PORT=N    the first side port to try (default: 8080)
#   CUTOUT_DEMO_EXIT=1    drain and exit as soon as the samples are done
#   CUTOUT_DEMO_PATIENCE  seconds to wait for readiness and for the cut-outs (default: 120)
#   CUTOUT_BIN=PATH       the program (default: target/release/cutout, or that of CARGO_TARGET_DIR)
#
# Exits with the worker's own status, or with 1 when it dies early or a cut-out does not appear.
# shellcheck disable=SC2329 # wait_until calls its conditions by name
set -euo pipefail
cd "$(dirname "$0")/.."

worker=${CUTOUT_BIN:-${CARGO_TARGET_DIR:-target}/release/cutout}
root=${CUTOUT_DEMO_DIR:-data}
wanted_port=${CUTOUT_DEMO_PORT:-8080}
last_port=$((wanted_port + 99))
# The first start loads a network and each sample takes about a second; the rest is for slow machines.
patience=${CUTOUT_DEMO_PATIENCE:-120}
export ORT_DYLIB_PATH=${ORT_DYLIB_PATH:-$PWD/.cache/lib/libonnxruntime.so}

say() { printf 'demo: %s\n' "$*"; }
fail() {
    say "FAILED: $*" >&2
    stop
    # A worker that drains is given the ten seconds that Cloud Run would give it.
    for _ in $(seq 50); do
        is_alive || break
        sleep 0.2
    done
    if is_alive; then kill -s KILL "$pid"; fi
    exit 1
}

pid=
stopping=
is_alive() { [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; }
stop() {
    if is_alive; then kill -s TERM "$pid" || true; fi
}
trap 'stopping=1; stop' INT TERM HUP

# The first line of an HTTP answer; nothing when nobody listens. Needs no curl.
http_status() {
    local line=
    { exec 3<>"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null || return 0
    printf 'GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n' "$2" >&3
    IFS= read -r -t 5 line <&3 || true
    exec 3>&-
    printf '%s' "$line"
}

port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

free_port() {
    local port
    for port in $(seq "$wanted_port" "$last_port"); do
        if port_is_free "$port"; then
            printf '%s' "$port"
            return
        fi
    done
    return 1
}

is_ready() { [[ $(http_status "$port" /startup) == *' 200 '* ]]; }

is_done() {
    local photo name
    for photo in samples/*.jpg; do
        name=$(basename "$photo" .jpg)
        [ -s "$root/outbox/$name.cutout.png" ] || return 1
    done
}

# wait_until CONDITION WHAT: true once the condition holds, false when asked to stop meanwhile.
wait_until() {
    local deadline=$((SECONDS + patience))
    until "$1"; do
        [ -z "$stopping" ] || return 1
        is_alive || fail "the worker died before $2; its log is above"
        [ "$SECONDS" -lt "$deadline" ] || fail "no sign of $2 after $patience s"
        sleep 0.2
    done
}

# Waits through signals, whose trap interrupts `wait`, and exits as the worker did.
finish() {
    local status=0 again
    wait "$pid" || status=$?
    while is_alive; do
        status=0
        wait "$pid" || status=$?
    done
    # A signal at the moment of the worker's exit leaves the signal's number; bash still knows the real one.
    again=0
    wait "$pid" 2>/dev/null || again=$?
    if [ "$again" -ne 127 ]; then status=$again; fi
    if [ "$status" -eq 0 ]; then say "the worker drained and exited"; else say "the worker exited with $status"; fi
    exit "$status"
}

[ -x "$worker" ] || fail "no program at $worker: run make demo"
port=$(free_port) || fail "no free port from $wanted_port to $last_port"
[ "$port" -eq "$wanted_port" ] || say "port $wanted_port is taken; using $port"

mkdir -p "$root/inbox" "$root/.incoming"
for photo in samples/*.jpg; do
    name=$(basename "$photo")
    # A photo that was there before keeps its generation, so that a second demo does no work twice.
    if [ ! -e "$root/inbox/$name" ]; then
        cp "$photo" "$root/.incoming/$name"
        mv "$root/.incoming/$name" "$root/inbox/$name"
    fi
done
rmdir "$root/.incoming"

# In a session of its own, so that Ctrl-C reaches this script alone: the worker would take
# the terminal's signal and this script's for two, and exits at once on the second.
setsid "$worker" worker --ingress local --root "$root" --port "$port" &
pid=$!

wait_until is_ready "readiness on http://127.0.0.1:$port/startup" || finish
wait_until is_done "every cut-out in $root/outbox" || finish

say "done: the cut-outs are in $root/outbox"
ls -l "$root"/outbox/*.cutout.png
say "side port: http://127.0.0.1:$port/ (also /health, /metrics, /model-info)"
if [ "${CUTOUT_DEMO_EXIT:-}" = 1 ]; then
    stop
else
    say "drop another JPEG into $root/inbox and look in $root/outbox; Ctrl-C drains and exits"
fi
finish
