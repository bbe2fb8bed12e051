# syntax=docker/dockerfile:1
# The worker's image. Variants, arguments, layers and sizes: docs/image.md.
#
#   PROVIDER=cpu    OpenVINO and ONNX Runtime's own kernels
#   PROVIDER=cuda   CUDA 12, for one NVIDIA card
#
# `scripts/image.sh` (make image) builds it with docker, podman or buildah.

ARG PROVIDER=cpu
ARG MODEL=isnet-medium
# Bookworm throughout: what is built on one Debian may need a C library that an older one lacks.
ARG RUST_IMAGE=docker.io/library/rust:1.95-slim-bookworm
ARG BAKE_IMAGE=docker.io/library/node:22-bookworm-slim
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

# Packages that are fetched already, and networks without a pin: empty, unless the build is given
# folders by these names (--build-context downloads=.cache/downloads).
FROM scratch AS downloads
FROM scratch AS networks

# The program -----------------------------------------------------------------------------------
FROM ${RUST_IMAGE} AS build
WORKDIR /build
ENV CARGO_HOME=/cargo
# Writes the list of crates into the program, where scanners and scripts/sbom.py find it.
ARG CARGO_AUDITABLE=0.7.7
RUN --mount=type=cache,id=cutout-crates,target=/cargo/registry \
    cargo install cargo-auditable --version "$CARGO_AUDITABLE" --locked --root /usr/local --target-dir /tmp/auditable \
    && rm -rf /tmp/auditable
# All crates, under sources of one line each: this layer stays until a dependency changes.
COPY Cargo.toml Cargo.lock ./
# A sixth smaller, as fast to start, and not what one wants to wait for outside an image:
# docs/benchmarks.md, "The release profile".
ENV CARGO_PROFILE_RELEASE_STRIP=symbols \
    CARGO_PROFILE_RELEASE_LTO=fat \
    CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1
RUN --mount=type=cache,id=cutout-crates,target=/cargo/registry \
    mkdir -p src tests benches \
    && echo 'fn main() {}' >src/main.rs && touch src/lib.rs \
    && for name in $(sed -n '/^\[\[\(test\|bench\)\]\]/{n;s/name = "\(.*\)"/\1/p}' Cargo.toml); do \
         touch "tests/$name.rs" "benches/$name.rs"; \
       done \
    && cargo auditable build --release --locked
COPY src src
COPY models/*.toml models/
# The stubs are younger than the sources, by which cargo would take them for built.
ARG CUTOUT_COMMIT=unknown
RUN --mount=type=cache,id=cutout-crates,target=/cargo/registry \
    find src models -type f -exec touch {} + \
    && CUTOUT_COMMIT="$CUTOUT_COMMIT" cargo auditable build --release --locked \
    && install -D target/release/cutout /program/usr/local/bin/cutout \
    && find /program -exec touch --date=@0 {} +

# Libraries and the network -----------------------------------------------------------------------
FROM ${BAKE_IMAGE} AS bake
ARG PROVIDER
ARG MODEL
WORKDIR /bake
# What the registries' clients need; nothing is installed where python3 is there and everything is
# in `downloads`.
RUN command -v python3 >/dev/null \
    || { apt-get update && apt-get install --yes --no-install-recommends python3 python3-pip ca-certificates; }
COPY LICENSE NOTICE ./
COPY models/*.toml models/
COPY scripts/bake.py scripts/bake.py
COPY scripts/provision scripts/provision
RUN --mount=type=bind,from=downloads,target=/downloads \
    --mount=type=bind,from=networks,target=/networks \
    --mount=type=cache,id=cutout-downloads,target=/bake/cache/downloads \
    find /downloads -maxdepth 1 -type f -exec ln -sf {} cache/downloads/ \; \
    && python3 scripts/bake.py lay-out --provider "$PROVIDER" --model "$MODEL" \
         --cache cache --into /baked --networks /networks

# What is there at run time -----------------------------------------------------------------------
# No layer below runs a command: the base may have no shell.
FROM ${RUNTIME_IMAGE} AS variant-cpu

FROM ${RUNTIME_IMAGE} AS variant-cuda
# Without a card it must not start. Kernels are loaded when first used: a network needs a fraction
# of what the libraries hold.
ENV CUTOUT_PROVIDER=cuda \
    CUDA_MODULE_LOADING=LAZY \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM variant-${PROVIDER}
ARG PROVIDER
ARG MODEL
# From what never changes to what always does: a new program sends one small layer.
COPY --from=bake /baked/libraries/ /
COPY --from=bake /baked/model/ /
# The provider for CUDA does not look beside itself. The driver's libraries are put into the second
# folder by Cloud Run and GKE; elsewhere NVIDIA's container toolkit puts them where ld.so looks.
# Which network is served is not set here: it would outrank INSPIRENET_MODE.
ENV CUTOUT_HOME=/opt/cutout \
    LD_LIBRARY_PATH=/opt/cutout/lib:/usr/local/nvidia/lib64
WORKDIR /data
# As numbers, which Kubernetes can see is not root; distroless calls it nonroot.
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM
# For docker and compose. Cloud Run and Kubernetes ignore it and ask /startup and /health themselves.
HEALTHCHECK --interval=30s --timeout=6s --start-period=240s --retries=3 CMD ["/usr/local/bin/cutout", "health"]
ENTRYPOINT ["/usr/local/bin/cutout"]
CMD ["worker"]
COPY --from=build /program/ /
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="cutout" \
      org.opencontainers.image.description="Removes the background from product and pet photos at shop scale" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      cutout.provider="${PROVIDER}" \
      cutout.model="${MODEL}"
