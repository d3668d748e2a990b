#!/usr/bin/env bash
# How is the reference started: a RabbitMQ of our own beside the machine's, in a folder that goes when it stops?
# Needs the Debian package rabbitmq-server. Runs until it is interrupted.
#   conformance/amqp091/rabbitmq.sh [AMQP PORT [HTTP PORT [TLS PORT]]]
set -euo pipefail
amqp="${1:-5682}" http="${2:-15682}" tls="${3:-5681}"
server=/usr/lib/rabbitmq/bin/rabbitmq-server
[ -x "$server" ] || { echo "needs RabbitMQ: apt-get install rabbitmq-server" >&2; exit 2; }
home="$(mktemp -d)"
trap 'kill "${server_pid:-}" 2>/dev/null; wait; rm -rf "$home"' EXIT
trap exit INT TERM

openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
    -keyout "$home/key.pem" -out "$home/cert.pem" 2>"$home/openssl.log"
cat >"$home/rabbitmq.conf" <<END
listeners.tcp.1 = 127.0.0.1:$amqp
listeners.ssl.1 = 127.0.0.1:$tls
ssl_options.cacertfile = $home/cert.pem
ssl_options.certfile = $home/cert.pem
ssl_options.keyfile = $home/key.pem
management.tcp.ip = 127.0.0.1
management.tcp.port = $http
heartbeat = 60
END
echo '[rabbitmq_management].' >"$home/plugins"
export HOME="$home"
export RABBITMQ_NODENAME="reference$amqp@localhost" RABBITMQ_BASE="$home"
export RABBITMQ_CONFIG_FILE="$home/rabbitmq.conf" RABBITMQ_ENABLED_PLUGINS_FILE="$home/plugins"
export RABBITMQ_MNESIA_BASE="$home/mnesia" RABBITMQ_LOG_BASE="$home/log" RABBITMQ_PID_FILE="$home/pid"
export RABBITMQ_DIST_PORT="$((amqp + 20000))" ERL_EPMD_PORT="$((amqp + 30000))" ERL_EPMD_ADDRESS=127.0.0.1
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+sbwt none +sbwtdcpu none +sbwtdio none"
echo "amqp 127.0.0.1:$amqp  http 127.0.0.1:$http  amqps 127.0.0.1:$tls  certificate $home/cert.pem"
"$server" &
server_pid=$!
# The trap runs only when nothing in the foreground holds it up.
wait "$server_pid"
