"""What MinIO needs to run, computed from its credentials alone."""

from __future__ import annotations

import dataclasses

from mlflow_kit import plan as plans

SERVICE = "minio"
PORT = 9000

# Rocks run their services as _daemon_ with this id; by number it works on every image.
USER_ID = 584792

# The storage itself belongs to root, so the data lies one level below.
_DATA = "/data/minio"
_CREDENTIALS = "/etc/minio/credentials"
_HOME = "/var/lib/minio"

# MinIO refuses shorter ones (internal/auth/credentials.go).
_ACCESS_KEY_LENGTH = 3
_SECRET_KEY_LENGTH = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Credentials:
    """The root account.

    Attributes:
        access_key: option ``access-key``.
        secret_key: option ``secret-key``, or the generated one.

    Raises:
        ValueError: MinIO would refuse one of them; the text names the option and the rule.
    """

    access_key: str
    secret_key: str = dataclasses.field(repr=False)

    def __post_init__(self) -> None:
        for option, value, least in (
            ("access-key", self.access_key, _ACCESS_KEY_LENGTH),
            ("secret-key", self.secret_key, _SECRET_KEY_LENGTH),
        ):
            if len(value) < least:
                raise ValueError(f"{option} is too short: use at least {least} characters")
            # MinIO strips the white space around what it reads from a file, and S3 clients
            # send the access key in a header.
            if not (value.isascii() and value.isprintable()) or value != value.strip():
                raise ValueError(
                    f"{option} has characters that are not allowed: use printable ASCII without "
                    "spaces around it"
                )


def plan(credentials: Credentials) -> plans.Plan:
    """Return the plan of the container."""
    user_file = f"{_CREDENTIALS}/root-user"
    password_file = f"{_CREDENTIALS}/root-password"
    return plans.Plan(
        directories=(
            plans.Directory(path=_DATA, mode=0o700, keep=True, user_id=USER_ID, group_id=USER_ID),
            plans.Directory(path=_HOME, mode=0o700, user_id=USER_ID, group_id=USER_ID),
            plans.Directory(
                path=_CREDENTIALS, mode=0o700, purge=True, user_id=USER_ID, group_id=USER_ID
            ),
        ),
        files=(
            plans.File(
                path=user_file,
                content=credentials.access_key,
                mode=0o600,
                user_id=USER_ID,
                group_id=USER_ID,
            ),
            plans.File(
                path=password_file,
                content=credentials.secret_key,
                mode=0o600,
                user_id=USER_ID,
                group_id=USER_ID,
            ),
        ),
        services=(
            plans.Service(
                name=SERVICE,
                argv=("minio", "server", "--quiet", "--address", f":{PORT}", _DATA),
                environment={
                    "HOME": _HOME,
                    "MINIO_ROOT_USER_FILE": user_file,
                    "MINIO_ROOT_PASSWORD_FILE": password_file,
                    # The console is a second web server that nothing here uses.
                    "MINIO_BROWSER": "off",
                    "MINIO_UPDATE": "off",
                },
                restart_on=(user_file, password_file),
                kill_delay=20,
                user_id=USER_ID,
                group_id=USER_ID,
            ),
        ),
        checks=(
            plans.Check(
                name=SERVICE, url=f"http://127.0.0.1:{PORT}/minio/health/live", period=2, timeout=2
            ),
        ),
    )
