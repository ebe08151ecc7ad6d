"""Print S3 keys in the form that AWS's ``credential_process`` wants.

    python3 s3_credentials.py KEYS.json

boto3 reads a credentials file once and for ever, but asks this program again when less than 15
minutes remain until ``Expiration``. So keys that changed are in use within about a minute, and
nothing restarts (AWS SDKs and Tools Reference, "Process credential provider").
"""

from __future__ import annotations

import datetime
import json
import pathlib
import sys

_MINUTES = 16


def main(path: str) -> None:
    """Print the keys, with an expiration that has boto3 ask again in a minute."""
    keys = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    expiration = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(
        minutes=_MINUTES
    )
    json.dump({"Version": 1, "Expiration": expiration.isoformat(), **keys}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
