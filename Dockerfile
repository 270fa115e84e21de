# The image of weir: the binary, the C library it needs, certificates, and nothing else; no shell, no root.
#
#   docker build --tag weir .
#   docker run --volume "$PWD/deploy:/etc/weir:ro" --publish 8080:8080 weir
#
# Mount the folder and not the file: an editor replaces a file by a new one, and a file that is mounted by itself stays
# the old one, so that no change would ever be seen.
#
# Without a network: vendor the crates first, they come along with the sources.
#
#   mkdir -p .cargo && cargo vendor --locked > .cargo/config.toml
#   docker build --network none --tag weir .

# Both stages are of one Debian: the binary needs a C library at least as new as the one it was linked with.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin weir && cp target/release/weir /weir

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /weir /usr/local/bin/weir
# `nonroot` by number, so that an orchestrator can see that it is not root. Ports below 1024 are not its own.
USER 65532:65532
EXPOSE 8080 9901
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/weir"]
# Other commands work too: docker run --volume … weir check /etc/weir/weir.yaml
CMD ["run", "--config", "/etc/weir/weir.yaml"]
