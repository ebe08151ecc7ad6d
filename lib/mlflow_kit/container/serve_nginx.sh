#!/bin/sh
# Start nginx; the working directory and the only argument come from the Pebble plan.
#
# When the nginx master is killed, its workers live on: they hold the port, and they go on
# with the users and the configuration of that moment. Pebble starts the master again, which
# then cannot bind. So workers whose master, which leads their process group, is gone end first.
# This is a shell script since an nginx image has no other interpreter.
set -eu

for process in /proc/[0-9]*; do
    # A process may be gone by now.
    { read -r pid name _ _ leader _ <"$process/stat"; } 2>/dev/null || continue
    if [ "$name" = "(nginx)" ] && [ ! -d "/proc/$leader" ]; then
        kill -KILL "$pid" || true
    fi
done
# A dead master does not remove its sockets either, and nginx does not bind over them.
rm -f sockets/*.sock

exec nginx -c "$1"
