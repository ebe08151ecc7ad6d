#!/bin/sh
# Start nginx; the working directory and the only argument come from the Pebble plan.
#
# When the nginx master is killed, its workers live on: they hold the port, and they go on
# with the users and the configuration of that moment. Pebble starts the master again, which
# then cannot bind. So whatever the last master left in this working directory ends first.
# This is a shell script since an nginx image has no other interpreter.
set -eu

for process in /proc/[0-9]*; do
    # A process may be gone by now, or belong to somebody else.
    { read -r name <"$process/comm"; } 2>/dev/null || continue
    if [ "$name" = nginx ] && [ "$process/cwd" -ef . ]; then
        kill -KILL "${process#/proc/}" || true
    fi
done
# A dead master does not remove its sockets either, and nginx does not bind over them.
rm -f sockets/*.sock

exec nginx -c "$1"
