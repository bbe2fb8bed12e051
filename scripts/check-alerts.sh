#!/usr/bin/env bash
# Checks the alerting rules with Prometheus' own tool, and fires each of them in its unit tests.
#
# Set-up fetches promtool where it can (Debian's package); one on PATH serves as well. Without it the
# rules are still held to the worker's metrics and the runbook by tests/monitoring.rs, and what was not
# checked is announced loudly. CUTOUT_REQUIRE_PROMTOOL=1 makes its absence a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

promtool=$PWD/.cache/bin/promtool
if ! [ -x "$promtool" ]; then promtool=$(command -v promtool || true); fi
if [ -z "$promtool" ]; then
    echo '#####################################################################' >&2
    echo '#  alerting rules NOT tested: there is no promtool on this machine  #' >&2
    echo '#####################################################################' >&2
    echo 'It comes with Prometheus: put it on PATH and run this again.' >&2
    if [ "${CUTOUT_REQUIRE_PROMTOOL:-}" = 1 ]; then exit 1; fi
    exit 0
fi
"$promtool" check rules --lint=all --lint-fatal monitoring/alerts.yaml
# Rule files are found relative to the folder of the tests.
"$promtool" test rules monitoring/alerts_test.yaml
