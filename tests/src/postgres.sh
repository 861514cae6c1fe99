#!/usr/bin/env bash
# Starts a throw-away PostgreSQL, and a PgBouncer before it, on free ports of the loopback interface; prints their
# addresses, then waits until its standard input ends, and removes everything. Whoever starts it keeps the input open:
# however that program ends, the server does not outlive it.
#
#   postgres.sh            for tests: nothing is forced to the disk
#   postgres.sh durable    for measuring: as a server that keeps what it acknowledges
#
# PostgreSQL refuses to run as root; then everything runs as the user that its package made.
set -euo pipefail

bin=$(dirname "$(ls /usr/lib/postgresql/*/bin/initdb 2>/dev/null | sort -V | tail -1)")
if [ ! -x "$bin/initdb" ]; then
    bin=$(dirname "$(command -v initdb)") || { echo "PostgreSQL is missing; install postgresql, 15 or newer" >&2; exit 1; }
fi
bouncer=$(PATH=$PATH:/usr/sbin command -v pgbouncer || true)
folder=$(mktemp -d)
as=()
if ((EUID == 0)); then
    chown postgres "$folder"
    as=(runuser -u postgres --)
fi
cd "$folder"
bouncer_pid=

finish() {
    trap - EXIT
    if [ -n "$bouncer_pid" ]; then kill "$bouncer_pid" 2>/dev/null || true; fi
    "${as[@]}" "$bin/pg_ctl" -m immediate -D "$folder/data" stop >/dev/null 2>&1 || true
    cd /
    rm -rf "$folder"
}
trap finish EXIT
trap 'exit 1' INT TERM HUP

# A language whose order differs from that of bytes: texts whose order matters must say so in the schema.
"${as[@]}" "$bin/initdb" -D data -U actor -A trust -E UTF8 --locale-provider=icu --icu-locale=en-US --locale=C.UTF-8 \
    --no-sync --no-instructions >initdb.log 2>&1 || { cat initdb.log >&2; exit 1; }
settings="-h 127.0.0.1 -k $folder -c max_connections=300 -c shared_buffers=128MB -c max_wal_size=4GB"
if [ "${1:-}" != durable ]; then settings="$settings -c fsync=off -c full_page_writes=off"; fi

port=
for try in $(shuf -i 20000-30000 -n 20); do
    # `pg_ctl -w` fails when the port is taken; the next one is tried.
    if "${as[@]}" "$bin/pg_ctl" -w -t 60 -D data -l server.log -o "$settings -p $try" start >start.log 2>&1 </dev/null; then
        port=$try
        break
    fi
done
if [ -z "$port" ]; then cat server.log >&2; exit 1; fi
echo "postgres postgres://actor@127.0.0.1:$port/postgres"

if [ -n "$bouncer" ]; then
    for try in $(shuf -i 30001-40000 -n 20); do
        cat >bouncer.ini <<INI
[databases]
* = host=127.0.0.1 port=$port
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $try
unix_socket_dir =
auth_type = any
pool_mode = transaction
max_client_conn = 1000
default_pool_size = 60
INI
        sed -i 's/^\* = .*/& user=actor/' bouncer.ini
        chmod 644 bouncer.ini
        "${as[@]}" "$bouncer" -q "$folder/bouncer.ini" >bouncer.log 2>&1 </dev/null &
        bouncer_pid=$!
        for _ in $(seq 100); do
            kill -0 "$bouncer_pid" 2>/dev/null || break
            if (exec 3<>"/dev/tcp/127.0.0.1/$try") 2>/dev/null; then
                echo "pooler postgres://actor@127.0.0.1:$try/postgres"
                break 2
            fi
            sleep 0.1
        done
        kill "$bouncer_pid" 2>/dev/null || true
        bouncer_pid=
    done
    if [ -z "$bouncer_pid" ]; then cat bouncer.log >&2; exit 1; fi
fi
echo ready
cat >/dev/null
