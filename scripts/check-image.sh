#!/usr/bin/env bash
# Builds the CPU image and runs a worker out of it against the emulators (scripts/image.sh), where a
# builder is at hand: docker or podman that answers, or buildah for root. Without one, that no image
# was built is announced loudly; CUTOUT_REQUIRE_IMAGE=1 makes it a failure. CUTOUT_SKIP_IMAGE=1 skips
# it, which spares a release build (ten minutes on two cores the first time).
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${CUTOUT_SKIP_IMAGE:-}" = 1 ]; then
    echo 'image: NOT built, since CUTOUT_SKIP_IMAGE=1' >&2
    exit 0
fi
if docker info >/dev/null 2>&1 || podman info >/dev/null 2>&1 ||
    { [ "$(id -u)" = 0 ] && command -v buildah >/dev/null && command -v mmdebstrap >/dev/null; }; then
    exec scripts/image.sh cpu test
fi
echo '##############################################################' >&2
echo '#  image NOT built nor run: there is nothing to build it with #' >&2
echo '##############################################################' >&2
echo 'docker, podman, or as root buildah and mmdebstrap (on Debian: apt-get install buildah mmdebstrap).' >&2
if [ "${CUTOUT_REQUIRE_IMAGE:-}" = 1 ]; then exit 1; fi
