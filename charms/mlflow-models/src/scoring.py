"""What runs in the container: one fetcher and up to two servers.

Two users, so that code in a model, which the servers run, can read no credential and change no
model: the fetcher's files are its own, and the servers may only read the models.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import layout
import slots
from mlflow_kit import plan as plans
from state import State

THRESHOLD = 8
"""Failed checks, 2 s apart, until the servers count as down: more than a long prediction takes."""

_KILL_DELAY = 12
"""Seconds; a server needs 9 of them at most to end what runs."""

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # The image's users are not known here, nor is a home of theirs.
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "PEBBLE_SOCKET": "/charm/container/pebble.socket",
}


def plan(state: State) -> plans.Plan:
    """Return what shall run.

    Without a model URI nothing does, and no credential stays. Without a source (a relation is
    missing or has no data yet) nothing is fetched, and what is served goes on being served: it
    needs nobody else.
    """
    if state.config.uri is None:
        return plans.Plan(directories=_directories())
    assignments = slots.assign(wanted(state), state.slots)
    servers = tuple(_server(found.name) for found in assignments if found.running)
    fetchers = (_fetcher(state),) if state.source else ()
    return plans.Plan(
        services=(*servers, *fetchers),
        directories=_directories(),
        files=(
            *_programs(state.programs),
            *(
                plans.File(path=layout.slot_file(a.name), content=_json(a.content))
                for a in assignments
            ),
            *_source_files(state),
        ),
        checks=(_check(),) if servers else (),
    )


def wanted(state: State) -> Mapping[str, object] | None:
    """Return what a server shall be asked for; None before a model was fetched.

    A model that was fetched for another URI goes on being served, but is not started again. The
    digest of the program is part of it, so that a new one takes over like a new model.
    """
    model = state.result.model
    if model is None:
        return None
    in_use = any(slot.content is not None for slot in state.slots)
    if model.requested != state.config.models_uri and not in_use:
        return None
    return {
        "serial": model.serial,
        "path": model.path,
        "uri": model.uri,
        "port": layout.PORT,
        "check": layout.CHECK,
        "workers": state.config.workers,
        "log-level": state.config.log_level,
        "request-timeout": state.config.request_timeout,
        "program": _digest("".join(state.programs[name] for name in layout.SERVER_FILES)),
    }


def job(state: State) -> dict[str, object]:
    """Return the fetcher's job; its `id` changes with everything that the fetcher depends on."""
    found: dict[str, object] = {"store": layout.STORE, "reports": layout.REPORTS}
    if state.source:
        found["uri"] = state.source.uri
        if state.source.tracking_uri:
            found["tracking-uri"] = state.source.tracking_uri
        if state.source.object_storage:
            found["s3"] = {"endpoint": state.source.object_storage.url, "keys": layout.KEYS_FILE}
    return {**found, "id": _digest(_json(found))}


def _directories() -> tuple[plans.Directory, ...]:
    return (
        plans.Directory(path=layout.PROGRAMS),
        plans.Directory(path=layout.SETTINGS),
        plans.Directory(path=layout.SLOTS, purge=True),
        plans.Directory(
            path=layout.CREDENTIALS,
            mode=0o700,
            user_id=layout.FETCHER_USER,
            group_id=layout.FETCHER_USER,
            purge=True,
        ),
        plans.Directory(path=layout.DATA),
        plans.Directory(
            path=layout.STORE, user_id=layout.FETCHER_USER, group_id=layout.FETCHER_USER, keep=True
        ),
        plans.Directory(
            path=layout.REPORTS, user_id=layout.SERVER_USER, group_id=layout.SERVER_USER, keep=True
        ),
    )


def _programs(programs: Mapping[str, str]) -> tuple[plans.File, ...]:
    return tuple(
        plans.File(path=f"{layout.PROGRAMS}/{name}", content=text)
        for name, text in sorted(programs.items())
    )


def _source_files(state: State) -> tuple[plans.File, ...]:
    if state.source is None:
        return ()
    files = [plans.File(path=layout.JOB_FILE, content=_json(job(state)))]
    if state.source.object_storage:
        keys = {
            "access-key": state.source.object_storage.access_key,
            "secret-key": state.source.object_storage.secret_key,
        }
        files.append(
            plans.File(
                path=layout.KEYS_FILE,
                content=_json(keys),
                mode=0o600,
                user_id=layout.FETCHER_USER,
                group_id=layout.FETCHER_USER,
            )
        )
    return tuple(files)


def _fetcher(state: State) -> plans.Service:
    files = _source_files(state)
    return plans.Service(
        name=layout.FETCHER,
        argv=("python3", f"{layout.PROGRAMS}/fetch.py", layout.JOB_FILE),
        environment={
            **_ENVIRONMENT,
            "HOME": layout.STORE,
            "TMPDIR": layout.STORE,
            # The fetcher tries again by itself and says in the meantime what is wrong.
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
            "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
            # It computes nothing; more threads of NumPy's would spin while they wait.
            "OPENBLAS_NUM_THREADS": "1",
            # The one form that works at every address; stores need not have wildcard names.
            "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE": "path",
            # Older and other stores than AWS do not know the newest checksums.
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
            "AWS_EC2_METADATA_DISABLED": "true",
        },
        working_dir=layout.STORE,
        user_id=layout.FETCHER_USER,
        group_id=layout.FETCHER_USER,
        restart_on=(f"{layout.PROGRAMS}/fetch.py", *(file.path for file in files)),
        one_shot=True,
    )


def _server(name: str) -> plans.Service:
    return plans.Service(
        name=name,
        argv=(
            "python3",
            f"{layout.PROGRAMS}/serve.py",
            layout.slot_file(name),
            layout.report_file(name),
        ),
        environment={**_ENVIRONMENT, "HOME": layout.REPORTS},
        working_dir=layout.REPORTS,
        user_id=layout.SERVER_USER,
        group_id=layout.SERVER_USER,
        restart_on=(layout.slot_file(name),),
        kill_delay=_KILL_DELAY,
    )


def _check() -> plans.Check:
    return plans.Check(
        name=layout.CHECK,
        url=f"http://localhost:{layout.PORT}/ping",
        period=2,
        threshold=THRESHOLD,
    )


def _json(content: Mapping[str, object]) -> str:
    return json.dumps(content, sort_keys=True, indent=1)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
