#!/usr/bin/env bash
# A MariaDB server for tests, with TLS, and with a user who may do everything.
set -euo pipefail
# shellcheck source=scripts/services/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

# The core package: the server without the service that starts it.
packages() { apt_packages mariadb-server-core mariadb-client openssl; }

user=eddyline
password=eddyline

start() {
    local dir=$1 port
    command -v mariadbd >/dev/null || die "run: $0 install"
    certificates "$dir"
    if ! [ -e "$dir/data/ready" ]; then
        rm -rf "$dir/data"
        mariadb-install-db --no-defaults --datadir="$dir/data" --auth-root-authentication-method=normal --skip-test-db \
            --user="$(id -un)" >>"$dir/log" 2>&1 || die "cannot make a database; see $dir/log"
        cat >"$dir/init.sql" <<SQL
CREATE USER IF NOT EXISTS '$user'@'%' IDENTIFIED BY '$password';
GRANT ALL ON *.* TO '$user'@'%' WITH GRANT OPTION;
CREATE DATABASE IF NOT EXISTS eddyline;
SQL
        touch "$dir/data/ready"
    fi
    if ! running "$dir"; then start_on_port "$dir" 1 launch_mariadb answers; fi
    read -r port <"$dir/port"
    echo "EDDYLINE_TEST_MYSQL=mysql://$user:$password@127.0.0.1:$port/eddyline"
    echo "EDDYLINE_TEST_MYSQL_CA=$dir/ca.pem"
}

# Commits go to the system and not to the disk: what is killed in tests is the server, not the machine.
launch_mariadb() {
    launch "$dir" "$(command -v mariadbd)" --no-defaults --user="$(id -un)" --datadir="$dir/data" --socket="$dir/s" \
        --pid-file="$dir/mariadb.pid" --bind-address=127.0.0.1 --port="$1" --init-file="$dir/init.sql" --skip-name-resolve \
        --innodb-flush-log-at-trx-commit=2 --innodb-buffer-pool-size=256M --innodb-log-file-size=256M \
        --character-set-server=utf8mb4 --local-infile=1 --ssl-ca="$dir/ca.pem" --ssl-cert="$dir/cert.pem" \
        --ssl-key="$dir/key.pem"
}

# Another server on the port would not be ours: ask whose data it has.
answers() {
    MYSQL_PWD=$password mariadb --no-defaults -h 127.0.0.1 -P "$1" -u "$user" -Ne 'SELECT @@datadir' | grep -qxF "$dir/data/"
}

stop() { signal "$1" TERM 60; }

main "$@"
