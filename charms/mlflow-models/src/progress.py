"""How far the model that the operator asked for is, in words for the status."""

from __future__ import annotations

import scoring
import slots
from mlflow_kit import problems
from mlflow_kit.problems import Problem
from reports import Slot, Status
from state import State

HINT = "set models-uri, for example models:/wine@champion"


def find(state: State) -> tuple[Problem, ...]:
    """Return why what was asked for is not what is served, most useful reason first."""
    if state.config.uri is None:
        return (problems.waiting(HINT), *state.problems)
    if state.missing:
        # A tracking server withdraws its address while it restarts. Where its model is served
        # already, nobody waits for that.
        if state.missing.kind is problems.Kind.WAITING and _is_served(state):
            return state.problems
        missing = Problem(state.missing.kind, f"{state.missing.message}{_still(state)}")
        return (missing, *state.problems)
    if not state.connected:
        return state.problems
    return (*_model(state), *state.problems)


def served(state: State) -> Slot | None:
    """Return the server that answers, the wanted one where both do."""
    up = [slot for slot in state.slots if slot.content is not None and slot.status is Status.UP]
    holder = _holder(state)
    return holder if holder in up else next(iter(up), None)


def served_uri(state: State) -> str:
    """Return the URI of the model that answers, with an alias resolved; empty for none."""
    slot = served(state)
    if slot is None or slot.content is None:
        return ""
    model = state.result.model
    if model is not None and model.serial == slot.content.get("serial"):
        # By another name, perhaps, than the server was started with.
        return model.uri
    return str(slot.content.get("uri", ""))


def _model(state: State) -> tuple[Problem, ...]:
    uri = state.config.uri
    if state.result.job != scoring.job(state)["id"]:
        return (problems.maintenance(f"fetching {uri}"),)
    if state.result.error:
        kind = problems.Kind.BLOCKED if state.result.blocked else problems.Kind.WAITING
        return (Problem(kind, f"models-uri {uri} {state.result.error}{_still(state)}"),)
    holder = _holder(state)
    if holder is not None and holder.status is Status.FAILED:
        return (problems.blocked(f"models-uri {uri} {holder.error}{_still(state)}"),)
    if holder is None or holder.status is not Status.UP:
        return (problems.maintenance(f"loading {uri}"),)
    return ()


def _is_served(state: State) -> bool:
    model = state.result.model
    holder = _holder(state)
    return (
        model is not None
        and model.requested == state.config.models_uri
        and holder is not None
        and holder.status is Status.UP
    )


def _holder(state: State) -> Slot | None:
    return slots.holder_of(scoring.wanted(state), state.slots)


def _still(state: State) -> str:
    uri = served_uri(state)
    return f"; {uri} is still served" if uri else ""
