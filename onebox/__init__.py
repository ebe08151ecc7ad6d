"""onebox: a Juju model on one machine, with Podman for the pods. See README.md."""
