#!/usr/bin/env bash
# Apache Kafka for tests: one node, KRaft, loopback, from Maven Central.
#
#   kafka.sh install         fetch the jars, once
#   kafka.sh start DIR       start on the data in DIR (made at the first start), print VAR=value lines
#   kafka.sh stop DIR        end it cleanly
#   kafka.sh kill DIR        end it as a power cut of the process would (SIGKILL)
#   kafka.sh tool DIR CLASS ARGUMENT...   run one of Kafka's own tools, such as
#       org.apache.kafka.tools.TopicCommand --describe; --bootstrap-server is added
#
# The ports are chosen at the first start and kept in DIR, so that clients find the broker again after a restart.
# KAFKA_HEAP (default 384m) bounds its heap. The user `eddyline` with password `eddyline-secret` may log in by SASL.
set -euo pipefail

version=4.4.0
tools="${EDDYLINE_TOOLS:-$HOME/.cache/eddyline}/kafka-$version"
user=eddyline
password=eddyline-secret
start_seconds=90
stop_seconds=40

fail() {
    echo "kafka.sh: $*" >&2
    exit 1
}

wants() {
    command -v "$1" >/dev/null && return
    [ "$(id -u)" = 0 ] || fail "$1 is missing: apt-get install $2"
    apt-get install -y --no-install-recommends "$2" >&2 || { apt-get update >&2 && apt-get install -y --no-install-recommends "$2" >&2; }
}

install() {
    wants java openjdk-17-jre-headless
    [ -e "$tools/complete" ] && return
    wants mvn maven
    mkdir -p "$tools"
    # Installers may run at the same time in several checkouts.
    exec 9>"$tools/lock"
    flock 9
    [ -e "$tools/complete" ] && return
    write_pom >"$tools/pom.xml"
    mvn -B -q -f "$tools/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$tools/libs" >&2
    touch "$tools/complete"
}

write_pom() {
    cat <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>eddyline</groupId><artifactId>kafka-for-tests</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$version</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$version</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
POM
}

java_with() {
    java -XX:+UseSerialGC -XX:-UsePerfData -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$tools/libs/*" "$@"
}

free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

prepare() {
    local dir=$1 controller
    [ -e "$dir/formatted" ] && return
    mkdir -p "$dir"
    free_port >"$dir/port"
    free_port >"$dir/sasl-port"
    controller=$(free_port)
    cat >"$dir/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$(cat "$dir/port"),SASL://127.0.0.1:$(cat "$dir/sasl-port"),CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$(cat "$dir/port"),SASL://127.0.0.1:$(cat "$dir/sasl-port")
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256
listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_$user="$password";
listener.name.sasl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
log.dirs=$dir/data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=2
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=2
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.retention.hours=-1
# Clients of a killed broker need not wait long for the new one to be let in.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
PROPERTIES
    # A Kafka UUID is 16 bytes in base64 without padding; / and + have other stand-ins there.
    local cluster
    cluster=$(head -c 16 /dev/urandom | base64 | tr '+/' 'ab' | cut -c1-22)
    java_with kafka.tools.StorageTool format --cluster-id "$cluster" --config "$dir/server.properties" \
        --add-scram "SCRAM-SHA-256=[name=$user,password=$password]" >"$dir/format.log" 2>&1 ||
        fail "cannot format storage: $(tail -n 3 "$dir/format.log" | tr '\n' ' ')"
    touch "$dir/formatted"
}

# A pid may belong to another process by now, so the command line must name the data, too.
running() {
    [ -e "$1/pid" ] && tr '\0' ' ' <"/proc/$(cat "$1/pid")/cmdline" 2>/dev/null | grep -qF "$1/server.properties"
}

# Whether the broker answers a request (ApiVersions); an open port alone does not say so.
answers() {
    local port=$1
    timeout 2 bash -c "exec 3<>/dev/tcp/127.0.0.1/$port &&
        printf '\\x00\\x00\\x00\\x0a\\x00\\x12\\x00\\x00\\x00\\x00\\x00\\x01\\xff\\xff' >&3 &&
        [ \"\$(head -c 8 <&3 | wc -c)\" = 8 ]" 2>/dev/null
}

start() {
    local dir
    mkdir -p "$1"
    dir=$(cd "$1" && pwd)
    [ -e "$tools/complete" ] || fail "not installed: run kafka.sh install"
    prepare "$dir"
    if ! running "$dir"; then
        local heap=${KAFKA_HEAP:-384m}
        setsid nohup java -Xms64m "-Xmx$heap" -XX:+UseSerialGC -XX:-UsePerfData \
            -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -Dorg.slf4j.simpleLogger.showDateTime=true \
            -cp "$tools/libs/*" kafka.Kafka "$dir/server.properties" >>"$dir/server.log" 2>&1 </dev/null 9>&- &
        echo $! >"$dir/pid"
    fi
    local port deadline=$((SECONDS + start_seconds))
    port=$(cat "$dir/port")
    until answers "$port"; do
        running "$dir" || fail "the broker has ended: $(tail -n 3 "$dir/server.log" | tr '\n' ' ')"
        [ "$SECONDS" -lt "$deadline" ] || fail "the broker does not answer; see $dir/server.log"
        sleep 0.1
    done
    echo "EDDYLINE_TEST_KAFKA=127.0.0.1:$port"
    echo "EDDYLINE_TEST_KAFKA_SASL=127.0.0.1:$(cat "$dir/sasl-port")"
}

end() {
    local dir signal=$2 pid
    dir=$(cd "$1" && pwd) || fail "no such directory: $1"
    running "$dir" || { rm -f "$dir/pid"; return 0; }
    pid=$(cat "$dir/pid")
    kill "-$signal" "$pid"
    local deadline=$((SECONDS + stop_seconds))
    while kill -0 "$pid" 2>/dev/null; do
        [ "$SECONDS" -lt "$deadline" ] || kill -KILL "$pid"
        sleep 0.05
    done
    rm -f "$dir/pid"
}

tool() {
    local dir=$1 class=$2
    shift 2
    java_with "$class" --bootstrap-server "127.0.0.1:$(cat "$dir/port")" "$@"
}

case "${1:-} $#" in
    "install 1") install ;;
    "start 2") start "$2" ;;
    "stop 2") end "$2" TERM ;;
    "kill 2") end "$2" KILL ;;
    tool*) [ $# -ge 3 ] || fail "tool wants DIR CLASS ARGUMENT..."; shift; tool "$@" ;;
    *) fail "usage: kafka.sh install | start DIR | stop DIR | kill DIR | tool DIR CLASS ARGUMENT..." ;;
esac
