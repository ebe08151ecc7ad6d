#!/bin/sh
# Run a PostgreSQL server such that SIGTERM stops it at once.
#
# Pebble stops a service with SIGTERM, on which PostgreSQL waits until every client has gone. A
# connection pool never goes, so Pebble would kill the server after a while and leave it to crash
# recovery. SIGINT makes it end the sessions, write a checkpoint and stop.
"$@" &
server=$!
trap 'kill -INT "$server"' TERM INT
wait "$server"
# A trapped signal ends the first wait early; the second one returns the server's own exit code.
trap '' TERM INT
wait "$server"
