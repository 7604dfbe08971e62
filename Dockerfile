# The command and the demo's origin, for docker-compose.yml.
#
# Three stages: the dependencies, which are built anew only when Cargo.lock or a manifest changes; the two programs; and an
# image with nothing but them, run by a user without rights.

FROM rust:1.95.0-slim-bookworm AS dependencies
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY bench/Cargo.toml bench/
COPY demo/Cargo.toml demo/
COPY fuzz/Cargo.toml fuzz/
COPY integrations/Cargo.toml integrations/
# Empty programs in place of ours: cargo builds all that they depend on, and the layer is kept.
RUN mkdir -p src/bin/httptrace bench/src demo/src integrations/src \
    && echo '//! Empty.' | tee src/lib.rs bench/src/lib.rs integrations/src/lib.rs src/bin/httptrace/main.rs demo/src/main.rs >/dev/null \
    && echo 'fn main() {}' | tee -a src/bin/httptrace/main.rs demo/src/main.rs >/dev/null \
    && cargo build --locked --release --features cli --bin httptrace \
    && cargo build --locked --release --package httptrace-demo

FROM dependencies AS programs
COPY README.md ./
COPY src src
COPY demo/src demo/src
# Their times are those of the checkout, which may be older than the empty programs.
RUN find src demo/src -name '*.rs' -exec touch {} + \
    && cargo build --locked --release --features cli --bin httptrace \
    && cargo build --locked --release --package httptrace-demo \
    && strip target/release/httptrace target/release/httptrace-demo

FROM debian:12.14-slim
# The programs need nothing of Debian but its C library and, for hosts of the real world, somebody's list of authorities.
COPY --from=programs /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=programs /build/target/release/httptrace /build/target/release/httptrace-demo /usr/local/bin/
# A new volume that is mounted here takes its owner from the folder.
RUN install -d -o 65532 -g 65532 /certificates
USER 65532:65532
CMD ["httptrace", "--help"]
