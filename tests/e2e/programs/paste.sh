#!/bin/sh
# Paste what `make up` printed into this shell, then run a program in it.
set -eu
. /pasted/block.sh
exec "$@"
