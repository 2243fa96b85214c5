# netmond, netmon-cli and netmon-mcp on nothing but a C library.
#
#   docker build -t netmon .
#   docker run -d --name netmond --cap-drop ALL --cap-add BPF --cap-add NET_ADMIN --cap-add PERFMON \
#     --network host --pid host --cgroupns host -v /sys/fs/cgroup:/sys/fs/cgroup:ro -v /run/netmon:/run/netmon netmon
#   netmon-cli summary --since 5m                    # on the host, as any user
#   docker exec netmond netmon-cli doctor
#
# --network host: the interfaces and sockets that it tells about are the host's.
# --pid host: it names processes as the host does.
# --cgroupns host and /sys/fs/cgroup: programs at the root of the control groups see every process, not the container's.
# /run/netmon: where users of the host find the socket.
FROM rust:1-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends clang libelf-dev zlib1g-dev pkg-config make \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p netmon-daemon -p netmon-cli -p netmon-mcp \
 && mkdir -p /out/bin /out/lib \
 && cp target/release/netmond target/release/netmon-cli target/release/netmon-mcp /out/bin/ \
 && cp -L /usr/lib/*/libelf.so.1 /usr/lib/*/libz.so.1 /out/lib/

FROM gcr.io/distroless/cc-debian12
COPY --from=build /out/bin/ /usr/bin/
COPY --from=build /out/lib/ /usr/lib/
COPY --from=build /src/netmon-daemon/netmond.toml /etc/netmon/netmond.toml
# By which the MCP registry knows that the image is what netmon-mcp/server.json names.
LABEL io.modelcontextprotocol.server.name="io.github.netmon/netmon-mcp"
# Root without capabilities but those that are added: an ordinary user could not have them here.
ENTRYPOINT ["/usr/bin/netmond"]
