#!/usr/bin/env bash
# Runs libFuzzer on every target, or on FUZZ_TARGET alone, for FUZZ_SECONDS (60) each, and prints
# what came of it. Exits with 1 when there is a finding. See docs/fuzzing.md.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${FUZZ_SECONDS:-60}
# The version that the results in docs/fuzzing.md were made with.
cargo_fuzz=0.13.2

missing=()
cargo +nightly --version >/dev/null 2>&1 ||
    missing+=('a nightly Rust, for the sanitizers: rustup toolchain install nightly --profile minimal')
cargo fuzz --version >/dev/null 2>&1 ||
    missing+=("cargo-fuzz: cargo install cargo-fuzz --locked --version $cargo_fuzz --root .cache")
c++ --version >/dev/null 2>&1 ||
    missing+=('a C++ compiler, for libFuzzer: on Debian apt-get install g++')
if [ ${#missing[@]} -gt 0 ]; then
    echo 'fuzz: FAILED: missing tools, get them and run this again:' >&2
    printf '  %s\n' "${missing[@]}" >&2
    exit 1
fi

# The dictionary and the folders of the corpus that a target reads; `sniff` reads photos too.
dictionary() {
    case $1 in
    notification | letter | envelope | push_envelope) echo message ;;
    sniff | decode) echo image ;;
    *) echo "$1" ;;
    esac
}
corpora() {
    echo "fuzz/corpus/$1"
    if [ "$1" = sniff ]; then echo fuzz/corpus/decode; fi
}

all=$(cargo +nightly fuzz list)
targets=${FUZZ_TARGET:-$all}
for target in $targets; do
    if ! grep -qx -- "$target" <<<"$all"; then
        echo "fuzz: FAILED: there is no target $target; there are:" $all >&2
        exit 1
    fi
done

# shellcheck disable=SC2086 # nothing, for all of them, or one name
cargo +nightly fuzz build ${FUZZ_TARGET:-}
findings=0
for target in $targets; do
    # What is found interesting goes to the first folder, which git ignores: see docs/fuzzing.md for
    # how it comes into the corpus.
    work=fuzz/work/$target
    artifacts=fuzz/artifacts/$target
    log=$work.log
    mkdir -p "$work" "$artifacts"
    before=$(find "$artifacts" -type f | wc -l)
    status=0
    # Instrumented decoders are up to some 500 times slower than those of a release: what takes 10 s
    # here would be noticed there.
    # shellcheck disable=SC2046 # the folders' names have no spaces
    cargo +nightly fuzz run "$target" "$work" $(corpora "$target") -- \
        -max_total_time="$seconds" -timeout=30 -report_slow_units=10 \
        -rss_limit_mb=1024 -malloc_limit_mb=256 -max_len=16384 -print_final_stats=1 \
        -dict="fuzz/dictionaries/$(dictionary "$target").dict" >"$log" 2>&1 || status=$?
    new=$(($(find "$artifacts" -type f | wc -l) - before))
    if [ "$status" -ne 0 ] && [ "$new" -eq 0 ]; then
        tail -n 30 "$log" >&2
        echo "fuzz: FAILED: $target did not run, see $log" >&2
        exit 1
    fi
    findings=$((findings + new))
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    speed=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log")
    covered=$(grep -o 'cov: [0-9]* ft: [0-9]*' "$log" | tail -n 1)
    printf 'fuzz: %-13s %9s executions, %6s/s, %s, findings: %s\n' \
        "$target" "${executions:-?}" "${speed:-?}" "${covered:-no coverage}" "$new"
    # Places in decoders whose panics `decode` catches are no findings, but good to know.
    sed -n 's/^caught by decode: /fuzz:   caught: /p' "$log"
done

if [ "$findings" -gt 0 ]; then
    echo "fuzz: $findings findings in fuzz/artifacts, the messages in fuzz/work/*.log" >&2
    exit 1
fi
