# The image of Tipstaff: operator, worker and command line in one program, on a base without a shell.
#
#     docker build -t ghcr.io/tipstaff/tipstaff:dev .
#     docker buildx build --platform linux/amd64,linux/arm64 -t … --push .
#
# Nothing in here depends on the architecture. Without Docker, `make image` puts the same files together.
FROM rust:1.95-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends cmake perl pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The caches make the second build a short one. What is built stays in them, so it is copied out in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,id=tipstaff-target-$TARGETARCH \
    cargo build --release --locked --workspace --bin tipstaff \
    && install -D -s target/release/tipstaff /image/usr/bin/tipstaff \
    && ln -s tipstaff /image/usr/bin/tipstaff-operator \
    && ln -s tipstaff /image/usr/bin/tipstaff-worker \
    && install -D -m 644 LICENSE /image/usr/share/doc/tipstaff/LICENSE

FROM gcr.io/distroless/cc-debian12:nonroot
ARG VERSION=dev
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="Tipstaff" \
      org.opencontainers.image.description="Watches published sources, keeps every version with its evidence, delivers what changed" \
      org.opencontainers.image.source="https://github.com/tipstaff/tipstaff" \
      org.opencontainers.image.documentation="https://github.com/tipstaff/tipstaff/blob/main/docs/install.md" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED"
COPY --from=build /image/ /
USER 65532:65532
ENV PATH=/usr/bin
ENTRYPOINT ["tipstaff"]
