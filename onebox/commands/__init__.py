"""The commands of ``juju``, a module per thing they are about."""
