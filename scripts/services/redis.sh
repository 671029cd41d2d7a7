#!/usr/bin/env bash
# A Redis server for tests, with a password and TLS, that keeps what it is told in an append-only file.
set -euo pipefail
# shellcheck source=scripts/services/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

packages() { apt_packages redis-server redis-tools openssl; }

password=eddyline

start() {
    local dir=$1 port
    command -v redis-server >/dev/null || die "run: $0 install"
    certificates "$dir"
    if ! running "$dir"; then start_on_port "$dir" 2 launch_redis answers; fi
    read -r port <"$dir/port"
    echo "EDDYLINE_TEST_REDIS=redis://:$password@127.0.0.1:$port"
    echo "EDDYLINE_TEST_REDIS_TLS=rediss://:$password@127.0.0.1:$((port + 1))"
    echo "EDDYLINE_TEST_REDIS_CA=$dir/ca.pem"
}

launch_redis() {
    launch "$dir" redis-server --bind 127.0.0.1 --port "$1" --requirepass "$password" --dir "$dir" --databases 1024 \
        --save "" --appendonly yes --appendfsync everysec --tls-port $(($1 + 1)) --tls-cert-file "$dir/cert.pem" \
        --tls-key-file "$dir/key.pem" --tls-ca-cert-file "$dir/ca.pem" --tls-auth-clients no
}

# Also waits until the data is loaded. Another server on the port would not be ours: ask whose directory it has.
answers() {
    REDISCLI_AUTH=$password redis-cli -h 127.0.0.1 -p "$1" config get dir | grep -qxF "$dir"
}

stop() { signal "$1" TERM 30; }

main "$@"
