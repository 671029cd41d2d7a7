#!/usr/bin/env bash
# Apache Kafka for tests: one node that is broker and controller (KRaft), from Maven Central by artefact name. A second
# listener wants TLS and a login: user and password are `eddyline` and `eddyline-secret`, by PLAIN or SCRAM-SHA-256.
#
# Besides what all services understand:
#   kafka.sh tool DIR CLASS ARGUMENT…   runs one of Kafka's own tools against the broker, such as
#                                       org.apache.kafka.tools.TopicCommand --describe
# KAFKA_HEAP (384m) bounds the broker's heap.
set -euo pipefail
# shellcheck source=scripts/services/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

version=4.4.0
home="$tools/kafka-$version"
user=eddyline
password=eddyline-secret

packages() {
    apt_packages openssl
    # Any Java from 17 on will do.
    command -v java >/dev/null || apt_packages openjdk-17-jre-headless
    [ -e "$home/complete" ] && return
    command -v mvn >/dev/null || apt_packages maven
    mkdir -p "$home"
    (
        flock 9
        [ -e "$home/complete" ] && exit
        artefacts >"$home/pom.xml"
        mvn -B -q -f "$home/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
            -DoutputDirectory="$home/libs" >&2 </dev/null
        touch "$home/complete"
    ) 9>"$home/lock"
}

artefacts() {
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

# Options for every Java process: small, and quick to start.
options=(-XX:+UseSerialGC -XX:-UsePerfData -Dorg.slf4j.simpleLogger.defaultLogLevel=warn
    -Dorg.slf4j.simpleLogger.showDateTime=true -cp "$home/libs/*")

start() {
    local dir=$1 port
    [ -e "$home/complete" ] || die "run: $0 install"
    certificates "$dir"
    if ! running "$dir"; then start_on_port "$dir" 3 launch_kafka answers; fi
    read -r port <"$dir/port"
    echo "EDDYLINE_TEST_KAFKA=127.0.0.1:$port"
    echo "EDDYLINE_TEST_KAFKA_TLS=127.0.0.1:$((port + 1))"
    echo "EDDYLINE_TEST_KAFKA_CA=$dir/ca.pem"
    echo "EDDYLINE_TEST_KAFKA_LOGIN=$user:$password"
}

launch_kafka() {
    properties "$1" >"$dir/server.properties"
    cat "$dir/key.pem" "$dir/cert.pem" >"$dir/keystore.pem"
    [ -e "$dir/formatted" ] || format
    launch "$dir" java "-Xmx${KAFKA_HEAP:-384m}" "${options[@]}" kafka.Kafka "$dir/server.properties"
}

format() {
    # A cluster's id is 16 bytes in base64 without padding; two of the 64 characters have other stand-ins there.
    local cluster
    cluster=$(head -c 16 /dev/urandom | base64 | tr '+/' 'ab' | cut -c1-22)
    rm -rf "$dir/data"
    java "${options[@]}" kafka.tools.StorageTool format --cluster-id "$cluster" --config "$dir/server.properties" \
        --add-scram "SCRAM-SHA-256=[name=$user,password=$password]" >>"$dir/log" 2>&1 ||
        die "cannot format storage: $(tail -n 3 "$dir/log" | tr '\n' ' ')"
    touch "$dir/formatted"
}

properties() {
    local port=$1
    local listeners="PLAINTEXT://127.0.0.1:$port,LOGIN://127.0.0.1:$((port + 1))"
    cat <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$((port + 2))
listeners=$listeners,CONTROLLER://127.0.0.1:$((port + 2))
advertised.listeners=$listeners
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,LOGIN:SASL_SSL,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.name.login.ssl.keystore.type=PEM
listener.name.login.ssl.keystore.location=$dir/keystore.pem
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256
listener.name.login.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_$user="$password";
listener.name.login.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
log.dirs=$dir/data
auto.create.topics.enable=false
log.retention.hours=-1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=2
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=2
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
# After a kill the controller lets the broker in again when its old session has ended.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
PROPERTIES
}

# An open port does not say that requests are answered: ask for the versions of the API, which needs no login.
answers() {
    local port=$1
    timeout 2 bash -c "exec 3<>/dev/tcp/127.0.0.1/$port
        printf '\\x00\\x00\\x00\\x0a\\x00\\x12\\x00\\x00\\x00\\x00\\x00\\x01\\xff\\xff' >&3
        [ \"\$(head -c 8 <&3 | wc -c)\" = 8 ]"
}

stop() { signal "$1" TERM 40; }

if [ "${1:-}" = tool ]; then
    [ $# -ge 3 ] || die "usage: $0 tool DIR CLASS ARGUMENT…"
    read -r port <"$2/port"
    exec java "${options[@]}" "$3" --bootstrap-server "127.0.0.1:$port" "${@:4}"
fi
main "$@"
