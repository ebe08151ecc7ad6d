"""Bring the model of one URI into the container, and keep trying until it is there.

Run by the charm as the Pebble service `fetch`: `python3 fetch.py JOB`. JOB is a JSON file:

    {"id": "...", "uri": "models:/wine@champion", "tracking-uri": "http://...",
     "s3": {"endpoint": "http://...", "keys": "/path/of/keys.json"},
     "store": "/var/lib/mlflow-models/fetched", "reports": "/var/lib/mlflow-models/serving"}

`tracking-uri` and `s3` may be absent; `keys` names a JSON file with `access-key` and
`secret-key`. What came of it is written to STORE/result.json (see `Store`), and a Pebble notice
calls the charm whenever that changes.

No code of a model runs here: this program may hold credentials, so it only copies the model's
files. `serve.py` loads them, as another user who cannot read the credentials.

Imports the standard library and MLflow, the latter late: its import takes seconds.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import collector
import pebble_notify

logger = logging.getLogger("fetch")

FIRST_PAUSE = 5.0
LONGEST_PAUSE = 30.0
"""Seconds between attempts: the pause doubles from the first to the longest."""

MODEL_FILE = "MLmodel"
"""The file that makes a folder a model (MLflow documentation, "Models")."""

# Names that the tracking server's API gives to what an operator can tell apart
# (mlflow.protos.databricks_pb2.ErrorCode).
_NOT_FOUND = frozenset({"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"})
_NO_ALIAS = "INVALID_PARAMETER_VALUE"
_REFUSED = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED"})

# S3 error codes, as boto3 gives them in ClientError.response["Error"]["Code"].
_S3_NOT_FOUND = frozenset({"404", "NoSuchBucket", "NoSuchKey"})
_S3_REFUSED = frozenset(
    {"401", "403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
)


class FetchError(Exception):
    """There is no model, and this is why.

    The message is made here and shown in the unit's status; the text of a foreign exception
    goes to the log only, since it may hold an address or worse.

    Attributes:
        blocked: whether an operator has to act; else it may go away by itself.
    """

    def __init__(self, message: str, *, blocked: bool = True) -> None:
        super().__init__(message)
        self.blocked = blocked


class Store:
    """Where fetched models are kept, and what is said about them.

    `result.json` holds `job` (the id of the job that was finished or has failed), `error` and
    `blocked` (empty and false when it was finished), and `model`: null, or the last good one
    with `serial`, `path`, `uri` (resolved), `requested` (as asked for) and `digest`. A failure
    leaves `model` as it was, so the one that is served stays known.
    """

    def __init__(self, folder: Path) -> None:
        self._result_file = folder / "result.json"
        self._models = folder / "models"
        self.staging = folder / "staging"

    @property
    def result(self) -> dict:
        """The content of `result.json`."""
        if not self._result_file.exists():
            return {"job": "", "error": "", "blocked": False, "model": None}
        return json.loads(self._result_file.read_text())

    def clear_staging(self) -> None:
        """Remove what an attempt that was cut off has left."""
        shutil.rmtree(self.staging, ignore_errors=True)
        self.staging.mkdir(parents=True)

    def keep(self, downloaded: Path, *, uri: str, requested: str) -> dict:
        """Move a complete model to its place; the same content keeps its place.

        Returns:
            The value of `model` for the result.
        """
        previous = self.result["model"]
        digest = _digest(downloaded)
        if previous and previous["digest"] == digest and Path(previous["path"]).is_dir():
            return {**previous, "uri": uri, "requested": requested}
        serial = previous["serial"] + 1 if previous else 1
        self._models.mkdir(parents=True, exist_ok=True)
        path = self._models / str(serial)
        # What a cut-off attempt with this number left was never named in a result.
        shutil.rmtree(path, ignore_errors=True)
        _make_readable(downloaded)
        downloaded.rename(path)
        return {
            "serial": serial,
            "path": str(path),
            "uri": uri,
            "requested": requested,
            "digest": digest,
        }

    def report(self, *, job: str, model: dict | None, error: FetchError | None = None) -> None:
        """Save the result and call the charm, if it says something new."""
        found = {
            "job": job,
            "error": str(error) if error else "",
            "blocked": bool(error and error.blocked),
            "model": model,
        }
        if found == self.result:
            return
        temporary = self._result_file.with_suffix(".new")
        temporary.write_text(json.dumps(found, indent=1, sort_keys=True))
        temporary.replace(self._result_file)
        _call_charm()

    def remove_others(self, path: str) -> None:
        """Remove every model but this one."""
        for folder in self._models.iterdir():
            if str(folder) != path:
                logger.info("removing %s, which is not served any more", folder)
                shutil.rmtree(folder, ignore_errors=True)


def main(job_file: str) -> None:
    """Fetch, say what came of it, and tidy up after the model has been taken over."""
    job = json.loads(Path(job_file).read_text())
    store = Store(Path(job["store"]))
    _configure(job)
    pause = FIRST_PAUSE
    while True:
        error: FetchError | None = None
        model = store.result["model"]
        try:
            model = fetch(job["uri"], store)
        except FetchError as failure:
            error = failure
            logger.warning("%s %s", job["uri"], failure)
            # Where the volume is full, the result itself needs the space.
            store.clear_staging()
        store.report(job=job["id"], model=model, error=error)
        # A model that was fetched and cannot be loaded gets no better by itself; a name that
        # may point to another version tomorrow does.
        if model and error is None:
            if taken_over(model, Path(job["reports"])):
                store.remove_others(model["path"])
                return
            if model["uri"] == job["uri"]:
                return
        time.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


def fetch(uri: str, store: Store) -> dict:
    """Bring one model into the store.

    Returns:
        The value of `model` for the result.

    Raises:
        FetchError: There is none.
    """
    with translated():
        resolved = _resolve(uri)
    model = store.result["model"]
    if resolved.startswith("models:/") and model and model["uri"] == resolved:
        # A registered version never changes, so there is nothing to copy again.
        return {**model, "requested": uri}
    store.clear_staging()
    logger.info("fetching %s", resolved)
    with translated():
        downloaded = _download(resolved, store.staging)
        return store.keep(downloaded, uri=resolved, requested=uri)


def taken_over(model: dict, reports: Path) -> bool:
    """Wait until a server answers with this model, or has failed to load it.

    Returns:
        Whether it answers.
    """
    while True:
        # First a pause: Pebble takes a service that ends within its first second for broken.
        time.sleep(1)
        found = {}
        for file in reports.glob("*.json"):
            # The servers replace their reports by renaming, so each is complete or gone.
            with contextlib.suppress(FileNotFoundError, ValueError):
                report = json.loads(file.read_text())
                if report.get("serial") == model["serial"]:
                    found[report.get("status")] = True
        if "up" in found:
            return True
        if "failed" in found:
            return False


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn the errors of MLflow and its transports into `FetchError`."""
    import botocore.exceptions
    import mlflow.exceptions

    try:
        yield
    except (
        botocore.exceptions.BotoCoreError,
        botocore.exceptions.ClientError,
        mlflow.exceptions.MlflowException,
        # The errors of `requests` are of this kind as well.
        OSError,
    ) as error:
        logger.warning("%s: %s", type(error).__name__, error)
        raise _explained(error) from error


def _configure(job: dict) -> None:
    """Tell MLflow and boto3 where to go.

    The keys get into this process's own copy of its environment after it has started, so they
    are in no file under /proc and in no child: there is none.
    """
    if "s3" in job:
        keys = json.loads(Path(job["s3"]["keys"]).read_text())
        os.environ["MLFLOW_S3_ENDPOINT_URL"] = job["s3"]["endpoint"]
        os.environ["AWS_ACCESS_KEY_ID"] = keys["access-key"]
        os.environ["AWS_SECRET_ACCESS_KEY"] = keys["secret-key"]

    with collector.paused():
        import mlflow

    if "tracking-uri" in job:
        mlflow.set_tracking_uri(job["tracking-uri"])


def _resolve(uri: str) -> str:
    """Return what an alias or `latest` means now; every other URI as it is."""
    if not uri.startswith("models:/"):
        return uri
    import mlflow
    from mlflow.store.artifact.utils import models

    found = models.get_model_name_and_version(mlflow.MlflowClient(), uri)
    return uri if len(found) == 1 else f"models:/{found[0]}/{found[1]}"


def _download(uri: str, staging: Path) -> Path:
    """Copy a model into the staging folder, after a look whether it is one."""
    import mlflow.artifacts

    # Without this look, a URI that is one level too high would copy a whole bucket.
    listed = mlflow.artifacts.list_artifacts(artifact_uri=uri)
    if not any(PurePosixPath(entry.path).name == MODEL_FILE for entry in listed):
        raise FetchError(f"is not a model: there is no {MODEL_FILE} file")
    return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(staging)))


def _explained(error: BaseException) -> FetchError:
    """Say in our words what went wrong; MLflow wraps the error that tells it."""
    cause: BaseException | None = error
    while cause is not None:
        found = _transport_error(cause)
        if found:
            return found
        cause = cause.__cause__ or cause.__context__
    # MLflow downloads in threads, and joins what went wrong there to a text.
    if os.strerror(errno.ENOSPC) in str(error):
        return FetchError("cannot be stored: there is no space left in the container")
    if isinstance(error, OSError):
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        return FetchError(f"cannot be stored: {reason}", blocked=False)
    code = str(getattr(error, "error_code", ""))
    if code in _NOT_FOUND:
        return FetchError("does not exist")
    if code == _NO_ALIAS:
        return FetchError("does not exist: the model has no such alias")
    if code in _REFUSED:
        return FetchError("cannot be read: the tracking server refuses access")
    return FetchError("cannot be read: the tracking server reports a fault", blocked=False)


def _transport_error(error: BaseException) -> FetchError | None:
    """Explain an error of boto3 or `requests`; None for others."""
    import botocore.exceptions
    import requests

    if isinstance(error, botocore.exceptions.ClientError):
        code = str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))
        if code in _S3_NOT_FOUND:
            return FetchError("does not exist")
        if code in _S3_REFUSED:
            return FetchError("cannot be read: the object store refuses the credentials")
        return FetchError("cannot be read: the object store reports a fault", blocked=False)
    if isinstance(error, botocore.exceptions.BotoCoreError):
        return FetchError("cannot be read: the object store does not answer", blocked=False)
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return _http_error(error.response.status_code)
    if isinstance(error, requests.RequestException):
        return FetchError("cannot be read: the tracking server does not answer", blocked=False)
    return None


def _http_error(status: int) -> FetchError:
    if status == 404:
        return FetchError("does not exist")
    if status in {401, 403}:
        return FetchError("cannot be read: the tracking server refuses access")
    return FetchError("cannot be read: the tracking server reports a fault", blocked=False)


def _digest(folder: Path) -> str:
    """Return a digest over the names and the contents of all files in a folder."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder)}\0{content}\0".encode())
    return total.hexdigest()


def _make_readable(folder: Path) -> None:
    """Let the user of the server read the model, whatever modes MLflow's client gave it."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _call_charm() -> None:
    try:
        pebble_notify.notify()
    except OSError:
        # The charm finds the result at its next update-status, minutes later.
        logger.exception("Pebble took no notice")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    main(sys.argv[1])
