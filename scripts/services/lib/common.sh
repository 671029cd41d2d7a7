# What the scripts of services share. To be sourced by scripts/services/NAME.sh, after `set -euo pipefail`.
# shellcheck shell=bash

# Where things that are downloaded once are kept.
tools=${EDDYLINE_TOOLS:-$HOME/.cache/eddyline}

say() { echo "$(basename "$0"): $*" >&2; }

die() {
    say "$*"
    exit 1
}

# The directory of one instance, absolute.
instance() {
    [ -n "${1:-}" ] || die "name the instance's directory"
    mkdir -p "$1"
    (cd "$1" && pwd)
}

# Installs Debian packages that are not there. Their own services are kept from starting.
apt_packages() {
    local package missing=()
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "install these yourself, there is no apt-get here: ${missing[*]}"
    local root=()
    [ "$(id -u)" = 0 ] || root=(sudo)
    mkdir -p "$tools"
    (
        flock 9
        # The list of packages may be old or missing: then they are not found, or no longer to be had.
        "${root[@]}" apt-cache show "${missing[@]}" >/dev/null 2>&1 || update "${root[@]}"
        install "${missing[@]}" || { update "${root[@]}" && install "${missing[@]}"; }
    ) 9>"$tools/apt.lock"
}

update() { "$@" apt-get update -qq -o DPkg::Lock::Timeout=600 >&2; }

install() {
    local policy=/usr/sbin/policy-rc.d made=
    if ! [ -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
        "${root[@]}" chmod 755 "$policy"
        made=1
    fi
    local status=0
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
        -o DPkg::Lock::Timeout=600 "$@" >&2 </dev/null || status=$?
    [ -z "$made" ] || "${root[@]}" rm -f "$policy"
    return "$status"
}

# When a process started, which tells it from a later one of the same number; nothing if there is none.
started() {
    local stat
    { read -r stat </proc/"$1"/stat; } 2>/dev/null || return 1
    # Counted after the command, which stands in brackets and may hold blanks.
    read -ra stat <<<"${stat##*) }"
    [ "${stat[0]}" != Z ] && echo "${stat[19]}"
}

running() {
    local pid start
    { read -r pid start <"$1/pid"; } 2>/dev/null && [ "$(started "$pid")" = "$start" ]
}

# launch DIR COMMAND…: starts it in a session of its own, so that Ctrl-C in a terminal does not reach it.
launch() {
    local dir=$1 pid
    shift
    setsid "$@" </dev/null >>"$dir/log" 2>&1 &
    pid=$!
    echo "$pid $(started "$pid")" >"$dir/pid"
}

# signal DIR NAME SECONDS: ends the process that DIR records and waits until it is gone.
signal() {
    local dir=$1 name=$2 seconds=$3 pid start tenth
    running "$dir" || { rm -f "$dir/pid"; return 0; }
    read -r pid start <"$dir/pid"
    kill -"$name" "$pid" 2>/dev/null || true
    for ((tenth = 0; tenth < seconds * 10; tenth++)); do
        running "$dir" || { rm -f "$dir/pid"; return 0; }
        sleep 0.1
    done
    [ "$name" = KILL ] && die "process $pid does not end"
    say "process $pid has not ended within ${seconds}s; killing it"
    signal "$dir" KILL 30
}

# Whether nothing listens on a port.
is_free() { ! (exec 3<>/dev/tcp/127.0.0.1/"$1") 2>/dev/null; }

# start_on_port DIR COUNT START READY: runs `START PORT` until `READY PORT` succeeds. The port is that of DIR's first start,
# or else one that is free, as are the COUNT-1 after it.
start_on_port() {
    local dir=$1 count=$2 start=$3 ready=$4 port attempt i
    for attempt in 1 2 3 4 5 6 7 8 9 10; do
        if [ -e "$dir/port" ]; then
            read -r port <"$dir/port"
        else
            # Below the range from which the system gives ports to clients.
            port=$((10000 + RANDOM % 22000))
            for ((i = 0; i < count; i++)); do is_free $((port + i)) || continue 2; done
        fi
        "$start" "$port"
        if until_ready "$dir" "$ready" "$port"; then
            echo "$port" >"$dir/port"
            return 0
        fi
        # Another process may have taken the port in the meantime.
        signal "$dir" KILL 30
    done
    tail -n 20 "$dir/log" >&2
    die "does not start, after $attempt attempts; its last lines stand above"
}

# Up to a minute; less if the process ends.
until_ready() {
    local tenth
    for ((tenth = 0; tenth < 600; tenth++)); do
        "$2" "$3" >/dev/null 2>&1 && return 0
        running "$1" || return 1
        sleep 0.1
    done
    return 1
}

# certificates DIR: ca.pem, and cert.pem with key.pem for 127.0.0.1 and localhost, signed by it.
certificates() {
    local dir=$1
    [ -e "$dir/cert.pem" ] && return 0
    (
        cd "$dir" || exit
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=eddyline-test-ca \
            -keyout ca-key.pem -out ca.pem
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout key.pem -out request.pem
        printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n' >extensions
        openssl x509 -req -in request.pem -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 3650 -extfile extensions \
            -out cert.new
        mv cert.new cert.pem
    ) >>"$dir/log" 2>&1
}

# main ARGUMENTS…: the interface that all services have. It calls `packages`, `start`, `stop`.
main() {
    case "${1:-}" in
        install) packages ;;
        start) start "$(instance "${2:-}")" ;;
        stop) stop "$(instance "${2:-}")" ;;
        kill) signal "$(instance "${2:-}")" KILL 30 ;;
        *) die "usage: $0 install | start DIR | stop DIR | kill DIR" ;;
    esac
}
