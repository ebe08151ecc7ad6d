#!/bin/sh
# Run a PostgreSQL server such that SIGTERM stops it at once.
#
# Pebble stops a service with SIGTERM, on which PostgreSQL waits until every client has gone. A
# connection pool never goes, so Pebble would kill the server after a while and leave it to crash
# recovery. SIGINT makes it end the sessions, write a checkpoint and stop.
#
# When this script is killed, the server lives on and Pebble starts another one, which cannot have
# the same data. So a server that was left ends first. The arguments are `postgres -D DATA ...`.
{ read -r left <"$3/postmaster.pid"; } 2>/dev/null || left=
{ read -r name <"/proc/$left/comm"; } 2>/dev/null || name=
if [ "$name" = postgres ]; then
    kill -INT "$left"
    while [ -d "/proc/$left" ]; do sleep 0.1; done
fi

"$@" &
server=$!
trap 'kill -INT "$server"' TERM INT
wait "$server"
# A trapped signal ends the first wait early; the second one returns the server's own exit code.
trap '' TERM INT
wait "$server"
