"""Everything the charm knows from outside, as one frozen value.

The only reader of options, databags and what the programs in the container have written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import ops

import layout
import reports
from config import Config
from mlflow_kit import container, databag, problems, workload
from mlflow_kit.databag import Absent, Invalid
from mlflow_kit.interfaces import ingress, mlflow_client, object_storage
from mlflow_kit.problems import Problem

INGRESS = "ingress"
MLFLOW = "mlflow"
OBJECT_STORAGE = "object-storage"

_PROGRAMS = Path(__file__).parent.parent / "workload"

_Answer = TypeVar("_Answer")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Where the model comes from.

    Attributes:
        uri: model URI.
        tracking_uri: address of the tracking server; empty without one.
        object_storage: where `s3:` URIs are read from; None without one.
    """

    uri: str
    tracking_uri: str = ""
    object_storage: object_storage.ObjectStorage | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class State:
    """What the charm works from.

    Attributes:
        application: name of this application.
        model: name of its Juju model.
        unit: name of this unit, for example ``mlflow-models/0``.
        address: IP address of this unit; None while Juju does not know it.
        config: the options.
        external_url: address from outside, without a trailing slash; empty without an ingress.
        source: where the model comes from; None while that is not known.
        missing: why that is not known; None when it is, or when no model is named.
        connected: whether the workload container answers.
        result: what the fetcher has come to.
        slots: the two servers.
        programs: the programs for the container, text by file name.
        problems: what is wrong with other relations; what is served goes on.
    """

    application: str
    model: str
    unit: str
    address: str | None
    config: Config
    external_url: str = ""
    source: Source | None = None
    missing: Problem | None = None
    connected: bool = True
    result: reports.Result = dataclasses.field(default_factory=reports.Result)
    slots: tuple[reports.Slot, ...] = ()
    programs: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str], repr=False)
    problems: tuple[Problem, ...] = ()


def load(charm: ops.CharmBase) -> State | list[Problem]:
    """Read everything.

    Returns:
        What to work from; or what is wrong with the options, and then nothing shall be changed:
        what runs has the last good ones.
    """
    try:
        config = charm.load_config(Config)
    except ValueError as error:
        return [problems.blocked(str(error))]
    workload_container = charm.unit.get_container(layout.CONTAINER)
    source = _source(charm.model, config)
    address = _external_url(charm.model)
    return State(
        application=charm.app.name,
        model=charm.model.name,
        unit=charm.unit.name,
        address=_address(charm.model),
        config=config,
        external_url="" if isinstance(address, Problem) else address,
        source=None if isinstance(source, Problem) else source,
        missing=source if isinstance(source, Problem) else None,
        connected=workload_container.can_connect(),
        result=reports.read_result(workload.read_text(workload_container, layout.RESULT_FILE)),
        slots=tuple(
            reports.read_slot(
                name,
                workload.read_text(workload_container, layout.slot_file(name)),
                workload.read_text(workload_container, layout.report_file(name)),
            )
            for name in layout.SERVERS
        ),
        programs=container.programs(_PROGRAMS, layout.PROGRAM_FILES),
        problems=(address,) if isinstance(address, Problem) else (),
    )


def active(model: ops.Model, endpoint: str) -> list[ops.Relation]:
    """Return the relations of an endpoint, without one that is just being broken."""
    return [relation for relation in model.relations[endpoint] if relation.active]


def _source(model: ops.Model, config: Config) -> Source | Problem | None:
    """Return where the model comes from, or what is missing; None when no model is named."""
    uri = config.uri
    if uri is None:
        return None
    tracking = _read(model, MLFLOW, mlflow_client.read)
    store = _read(model, OBJECT_STORAGE, object_storage.read)
    for endpoint, answer in ((MLFLOW, tracking), (OBJECT_STORAGE, store)):
        if isinstance(answer, Invalid):
            return _problem(endpoint, answer)
    endpoint, needed = (MLFLOW, tracking) if uri.needs_tracking else (OBJECT_STORAGE, store)
    if needed is None:
        return problems.blocked(f"models-uri {uri} needs relation {endpoint}")
    if isinstance(needed, (Absent, Invalid)):
        return _problem(endpoint, needed)
    return Source(
        uri=uri.text,
        tracking_uri=tracking.uri if isinstance(tracking, mlflow_client.Tracking) else "",
        # A tracking server that does not proxy artifacts names places in the store as well.
        object_storage=store if isinstance(store, object_storage.ObjectStorage) else None,
    )


def _external_url(model: ops.Model) -> str | Problem:
    answer = _read(model, INGRESS, ingress.read)
    if answer is None:
        return ""
    return answer.url if isinstance(answer, ingress.Ingress) else _problem(INGRESS, answer)


def _read(
    model: ops.Model, endpoint: str, reader: Callable[[Mapping[str, str]], _Answer]
) -> _Answer | None:
    """Read the one relation of an endpoint; None without one."""
    for relation in active(model, endpoint):
        return reader(databag.remote_app(relation))
    return None


def _problem(endpoint: str, answer: Absent | Invalid) -> Problem:
    if isinstance(answer, Absent):
        return problems.waiting(f"{endpoint}: waiting for {answer.waiting_for}")
    return problems.blocked(f"{endpoint}: {answer.reason}")


def _address(model: ops.Model) -> str | None:
    """Return the address that the ingress shall send requests to."""
    address = model.get_binding(INGRESS).network.bind_address
    return None if address is None else str(address)
