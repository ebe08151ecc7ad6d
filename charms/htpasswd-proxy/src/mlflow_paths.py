"""What the proxy knows about MLflow: paths with limits of their own, and paths it refuses.

The proxy puts a password in front of any application. These few paths are handled apart below
every upstream, since an upstream does not say what it is and no other application has them.
All of them are relative to the upstream's root and were read from the routes of MLflow 3.17.2.
"""

from __future__ import annotations

import dataclasses

_APIS = ("api", "ajax-api")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Route:
    """A path and everything below it.

    Attributes:
        path: without a slash at the front.
        body_limit: largest request body in nginx's notation; ``0`` for any size.
        stream: whether bodies are passed on as they come, without a copy on disk.
        read_timeout: seconds that the upstream may be silent.
    """

    path: str
    body_limit: str
    stream: bool = False
    read_timeout: int = 120


ROUTES = (
    # One PUT or GET per artifact, of any size; the server answers after it has stored the file.
    *(
        Route(
            path=f"{api}/2.0/mlflow-artifacts/",
            body_limit="0",
            stream=True,
            read_timeout=300,
        )
        for api in _APIS
    ),
    # Spans of a whole batch, by OTLP.
    Route(path="v1/traces", body_limit="64m"),
    # Files that the UI uploads; MLflow itself accepts up to 10 MB.
    Route(path="ajax-api/2.0/mlflow/upload-artifact", body_limit="64m"),
)
"""Paths whose limits are not the default ones."""

DOWNLOADS = ("get-artifact", "model-versions/get-artifact")
"""Downloads of the UI.

With ``presigned=true`` they answer with an address of the object store that needs no password
and that a browser outside cannot reach. Refused, the UI takes the bytes from the server.
"""

REFUSED = (
    # The assistant may run programs on the server. It serves callers from "localhost" only, and
    # whoever stands between must not make everybody look like one.
    "ajax-api/3.0/mlflow/assistant",
    # Addresses of the object store that need no password: everything stays behind the proxy.
    *(
        path
        for api in _APIS
        for path in (
            f"{api}/2.0/mlflow-artifacts/mpu/",
            f"{api}/2.0/mlflow-artifacts/presigned/",
            f"{api}/2.0/mlflow/artifacts/presigned-download-url",
            f"{api}/2.0/mlflow/artifacts/presigned-upload-url",
        )
    ),
)
"""Paths that answer 404, as if the server had not the feature: clients and UI then do without."""

SERVER_INFO = tuple(f"{api}/3.0/mlflow/server-info" for api in _APIS)
"""Where the server says what it can do; clients ask there once."""

NOT_OFFERED = (
    "multipart_uploads_enabled",
    "multipart_downloads_enabled",
    "presigned_upload_run_id_supported",
    "presigned_upload_model_id_supported",
)
"""What it says there about the refused paths, which must become false.

A server with artifacts in S3 always says that it has them (MLflow 3.17.2, ``server/handlers.py``),
and a client that was told so does not do without them when they answer 404
(``store/artifact/mlflow_artifacts_repo.py``).
"""
