# The image for registries: one static binary, no shell, no nft, no demo. From the root of the repository:
#   docker buildx build --platform linux/amd64,linux/arm64 --build-arg REVISION=$(git rev-parse HEAD) .
# hack/image packs the same without a registry, linked with glibc.

# Rust's host on Alpine is musl, which links statically by default. Each platform builds for itself.
FROM rust:1.95.0-alpine AS build
ARG TARGETPLATFORM
# A linker and musl's headers; one dependency holds C and assembly.
RUN apk add --no-cache build-base
# The toolchain of the image, without the components that rust-toolchain.toml asks for.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /src
COPY . .
RUN --mount=type=cache,id=registry-$TARGETPLATFORM,target=/usr/local/cargo/registry \
    --mount=type=cache,id=target-$TARGETPLATFORM,target=/src/target \
    cargo build --locked --profile image --no-default-features --features cluster --package palisade && \
    install -D target/image/palisade /image/palisade

FROM scratch
ARG REVISION
LABEL org.opencontainers.image.title="Palisade" \
      org.opencontainers.image.description="Kubernetes NetworkPolicy enforced with nftables" \
      org.opencontainers.image.source="https://github.com/palisade/palisade" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.2.0" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /image/palisade /palisade
# Kubernetes gives capabilities to root only: the manifest drops all but NET_ADMIN.
USER 0:0
ENTRYPOINT ["/palisade"]
