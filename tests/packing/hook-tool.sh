#!/bin/sh
# Stands in for Juju's hook tools where a test runs a packed charm's dispatch: a unit that leads
# an application without relations, storage or secrets. Writes what the charm says to $HOOK_LOG.
tool=${0##*/}
echo "$tool $*" >>"$HOOK_LOG"
case $tool in
is-leader) echo true ;;
config-get) cat "$HOOK_CONFIG" ;;
relation-ids | relation-list | secret-ids | storage-list | opened-ports) echo '[]' ;;
status-get) echo '{"status": "unknown", "message": "", "status-data": {}}' ;;
goal-state) echo '{"units": {}, "relations": {}}' ;;
network-get) echo '{"bind-addresses": [{"interface-name": "eth0", "addresses": [{"hostname": "", "value": "10.1.0.7", "cidr": "10.1.0.0/16"}]}], "egress-subnets": ["10.1.0.7/32"], "ingress-addresses": ["10.1.0.7"]}' ;;
secret-add) echo secret:d2mk1v76l3s0c7q5c9ug ;;
secret-get | secret-info-get) echo 'ERROR secret not found' >&2; exit 1 ;;
resource-get) echo 'ERROR could not download resource' >&2; exit 1 ;;
action-get) echo '{"text": "back"}' ;;
juju-log | status-set | open-port | close-port | application-version-set) ;;
secret-set | secret-grant | secret-revoke | secret-remove) ;;
action-set | action-fail | action-log | state-get | state-set | state-delete) ;;
*) echo "ERROR no hook tool $tool" >&2; exit 1 ;;
esac
