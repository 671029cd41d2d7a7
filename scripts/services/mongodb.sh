#!/usr/bin/env bash
# A server that speaks MongoDB's protocol, for tests: SecantusDB, which comes as a Python package. It is not mongod, and it
# is slow. To test against another server, set EDDYLINE_TEST_MONGODB to its address: then none is started.
set -euo pipefail
# shellcheck source=scripts/services/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

version=0.7.0b3
venv=$tools/secantusdb-$version

packages() {
    [ -z "${EDDYLINE_TEST_MONGODB:-}" ] || return 0
    # Debian keeps it apart from Python.
    python3 -c 'import ensurepip, venv' 2>/dev/null || apt_packages python3-venv
    apt_packages openssl
    mkdir -p "$tools"
    (
        # Two test runs may install at once, and one that is killed leaves half of it.
        flock 9
        [ ! -e "$venv/installed" ] || exit 0
        rm -rf "$venv"
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check "SecantusDB==$version" >&2
        touch "$venv/installed"
    ) 9>"$tools/mongodb.lock"
}

start() {
    local dir=$1 port
    if [ -n "${EDDYLINE_TEST_MONGODB:-}" ]; then
        echo "EDDYLINE_TEST_MONGODB=$EDDYLINE_TEST_MONGODB"
        return 0
    fi
    [ -e "$venv/installed" ] || die "run: $0 install"
    mkdir -p "$dir/data"
    if ! running "$dir"; then start_on_port "$dir" 1 launch_secantusdb answers; fi
    read -r port <"$dir/port"
    echo "EDDYLINE_TEST_MONGODB=mongodb://127.0.0.1:$port"
}

# Further options are the words of DIR/options: --standalone, --auth, …; `tls` stands for those with a certificate of
# DIR/ca.pem.
launch_secantusdb() {
    local options=()
    # A line without an end is one too.
    [ ! -e "$dir/options" ] || read -ra options <"$dir/options" || true
    if [ "${options[*]}" = tls ]; then
        certificates "$dir"
        options=(--tls-cert-file "$dir/cert.pem" --tls-key-file "$dir/key.pem")
    fi
    # An empty file, so that it looks for no other.
    : >"$dir/secantusd.toml"
    launch "$dir" "$venv/bin/secantusd-py" --config "$dir/secantusd.toml" --host 127.0.0.1 --port "$1" \
        --storage-path "$dir/data" --cache-size 256M "${options[@]}"
}

# Another server on the port would not be ours: ours says so in its log, when it listens.
answers() { grep -q "listening on 127.0.0.1:$1\$" "$dir/log" && ! is_free "$1"; }

stop() { signal "$1" TERM 30; }

main "$@"
