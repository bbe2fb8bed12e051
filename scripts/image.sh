#!/bin/sh
# Builds the container image, checks its libraries, writes its bill of materials, prints its layers.
#
#   scripts/image.sh [cpu|cuda] [test]
#
# With `test` a worker is run out of it afterwards (scripts/image_test.py).
# docker or podman is used where its daemon or machine answers, else buildah. Base images are
# RUST_IMAGE, BAKE_IMAGE and RUNTIME_IMAGE, or the Dockerfile's; where buildah reaches no registry, it
# uses bases that mmdebstrap makes of Debian's packages, with this machine's Rust. Also from the
# environment: MODEL, NETWORKS (a folder with networks that have no pin, docs/image.md), TAG, OUT.
set -eu

cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
provider=${1:-${PROVIDER:-cpu}}
test=${2:-}
model=${MODEL:-isnet-medium}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
[ -z "$(git status --porcelain --untracked-files=no 2>/dev/null)" ] || revision=$revision-dirty
tag=${TAG:-cutout:$version-$provider}
out=${OUT:-target/image}
# chroot needs neither a runtime nor namespaces, so it works inside other containers too.
export BUILDAH_ISOLATION="${BUILDAH_ISOLATION:-chroot}" STORAGE_DRIVER="${STORAGE_DRIVER:-overlay}"

say() { echo "image: $*"; }
fail() { echo "image: FAILED: $*" >&2; exit 1; }

case $provider in cpu | cuda) ;; *) fail "$provider is no variant: cpu or cuda" ;; esac

if [ -n "${BUILDER:-}" ]; then
    builder=$BUILDER
elif docker info >/dev/null 2>&1; then
    builder=docker
elif podman info >/dev/null 2>&1; then
    builder=podman
elif command -v buildah >/dev/null; then
    builder=buildah
else
    fail "no docker or podman answers, and buildah is missing: on Debian 'apt-get install buildah mmdebstrap'"
fi

$PYTHON scripts/setup.py image
mkdir -p "$out" .cache/downloads .cache/networks
networks=${NETWORKS:-.cache/networks}
set -- --build-arg PROVIDER="$provider" --build-arg MODEL="$model" --build-arg VERSION="$version" \
    --build-arg REVISION="$revision" --build-arg CUTOUT_COMMIT="$revision" \
    --build-context downloads="$PWD/.cache/downloads" --build-context networks="$(realpath "$networks")"
[ -z "${RUST_IMAGE:-}" ] || set -- "$@" --build-arg RUST_IMAGE="$RUST_IMAGE"
[ -z "${BAKE_IMAGE:-}" ] || set -- "$@" --build-arg BAKE_IMAGE="$BAKE_IMAGE"
[ -z "${RUNTIME_IMAGE:-}" ] || set -- "$@" --build-arg RUNTIME_IMAGE="$RUNTIME_IMAGE"

# Debian's packages as base images: one that builds, and one with the parts of that
# which gcr.io/distroless/cc-debian12 has too, recorded as there.
make_bases() {
    command -v mmdebstrap >/dev/null ||
        fail "no registry is reached, and mmdebstrap, which makes bases from Debian's packages, is missing: apt-get install mmdebstrap"
    [ "$(id -u)" = 0 ] || fail "making base images needs root"
    if buildah inspect --type image localhost/cutout-base-run >/dev/null 2>&1; then
        say "the base images of a former run are used (buildah rmi localhost/cutout-base-run makes them anew)"
        return
    fi
    say "no registry is reached: making base images from Debian's packages"
    work=$(mktemp -d)
    mmdebstrap --quiet --variant=minbase --include=ca-certificates,gcc,libc6-dev,libstdc++6,zlib1g,python3-minimal,libpython3-stdlib,python3 \
        bookworm "$work/build" >&2
    scripts/image_base.sh "$work/build" "$work/run"
    for name in build run; do
        container=$(buildah from scratch)
        buildah add --quiet "$container" "$work/$name" / >/dev/null
        # Where the Rust of this machine will be mounted.
        [ $name = run ] || buildah config --env PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
        buildah commit --quiet --rm "$container" "localhost/cutout-base-$name" >/dev/null
    done
    rm -rf "$work"
}

case $builder in
buildah)
    $PYTHON scripts/bake.py fetch --provider "$provider" --cache .cache
    if [ -z "${RUNTIME_IMAGE:-}" ] && ! timeout 20 buildah pull --quiet gcr.io/distroless/cc-debian12:nonroot >/dev/null 2>&1; then
        make_bases
        # The machine's certificates: its way to crates.io may have one of its own.
        set -- "$@" --pull-never \
            --build-arg RUST_IMAGE=localhost/cutout-base-build --build-arg BAKE_IMAGE=localhost/cutout-base-build \
            --build-arg RUNTIME_IMAGE=localhost/cutout-base-run \
            --volume "$(rustc --print sysroot):/usr/local/rust:ro" \
            --volume /etc/ssl/certs/ca-certificates.crt:/etc/ssl/certs/ca-certificates.crt:ro
    fi
    # The OCI format has no health check.
    buildah bud --layers --format docker "$@" --tag "$tag" .
    container=$(buildah from --pull-never "$tag")
    trap 'buildah rm "$container" >/dev/null' EXIT
    root=$(buildah mount "$container")
    digest=sha256:$(buildah inspect --type image --format '{{.FromImageID}}' "$tag")
    ;;
*)
    $builder build "$@" --tag "$tag" .
    root=$(mktemp -d)
    container=$($builder create "$tag")
    trap '$builder rm "$container" >/dev/null; rm -rf "$root"' EXIT
    $builder export "$container" | tar -x -C "$root"
    digest=$($builder inspect --format '{{.Id}}' "$tag")
    case $digest in sha256:*) ;; *) digest=sha256:$digest ;; esac
    ;;
esac

case $provider in
cuda) must=libonnxruntime_providers_cuda.so ;;
*) [ "$(uname -m)" = x86_64 ] && must=libonnxruntime_providers_openvino.so || must=libonnxruntime.so.1.26.0 ;;
esac
$PYTHON scripts/check_libraries.py "$root" --must $must >"$out/libraries-$provider.txt" || {
    grep WRONG "$out/libraries-$provider.txt" >&2
    fail "libraries are missing"
}
tail -1 "$out/libraries-$provider.txt"
$PYTHON scripts/sbom.py "$root" --version "$version" --revision "$revision" --digest "$digest" --out "$out/cutout-$provider.cdx.json"
# The budget is for the default network.
variant=$provider
[ "$model" = isnet-medium ] || variant=
$PYTHON scripts/image_layers.py "$builder" "$tag" "$variant"
say "$tag is $digest"
[ -z "$test" ] || $PYTHON scripts/image_test.py "$builder" "$tag" "$provider"
