"""The charm's options, with their bounds."""

from __future__ import annotations

import dataclasses
import re

from mlflow_kit import options, uris

_LOG_LEVELS = ("debug", "info", "warning", "error")
_MAX_WORKERS = 16

# Amazon's "Bucket naming rules", which MinIO and Ceph follow.
_BUCKET = re.compile(r"(?!.*\.\.)(?!xn--)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")

# What PostgreSQL takes as an identifier of at most 63 bytes and MySQL of at most 64 without
# wanting quotes everywhere.
_DATABASE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The options of charmcraft.yaml; their meaning is described there.

    Raises:
        ValueError: an option is out of bounds; the message names it, its value and what is
            allowed, in one sentence.
    """

    allowed_hosts: str = ""
    bucket: str = "mlflow"
    database: str = "mlflow"
    external_url: str = ""
    log_level: str = "info"
    notebook_object_storage: bool = False
    workers: int = 2

    def __post_init__(self) -> None:
        """Check each option."""
        if not 1 <= self.workers <= _MAX_WORKERS:
            raise options.error("workers", self.workers, f"a number from 1 to {_MAX_WORKERS}")
        if self.log_level not in _LOG_LEVELS:
            raise options.error("log-level", self.log_level, f"one of {', '.join(_LOG_LEVELS)}")
        if not _BUCKET.fullmatch(self.bucket) or uris.is_ip(self.bucket):
            raise options.error(
                "bucket",
                self.bucket,
                "3 to 63 lower-case letters, digits, dots and hyphens, as S3 wants it",
            )
        if not _DATABASE.fullmatch(self.database):
            raise options.error(
                "database",
                self.database,
                "up to 63 letters, digits, underscores and hyphens, with a letter first",
            )
        for host in self.hosts:
            if not uris.is_host(host):
                raise options.error(
                    "allowed-hosts", host, "host names and addresses, without port or wildcard"
                )
        if self.external_url:
            try:
                uris.parse_web(self.external_url)
            except ValueError:
                raise options.error(
                    "external-url", self.external_url, "an http or https URL without query"
                ) from None

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names of ``allowed-hosts``."""
        parts = (part.strip().strip("[]") for part in self.allowed_hosts.split(","))
        return tuple(part for part in parts if part)
