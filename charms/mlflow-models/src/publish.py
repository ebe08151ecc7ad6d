"""What the charm tells the applications that it is related to."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import layout
from mlflow_kit import uris
from mlflow_kit.interfaces import ingress, object_storage
from state import INGRESS, OBJECT_STORAGE, State


@dataclasses.dataclass(frozen=True, kw_only=True)
class Databags:
    """What goes over the relations of one endpoint.

    Attributes:
        app: for the application's databag, saved by the leader.
        unit: for the unit's databag.
    """

    app: Mapping[str, str]
    unit: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])


def outgoing(state: State) -> Mapping[str, Databags]:
    """Return what to save, by endpoint.

    The ingress is asked for before there is a model: its address is then known early, and it is
    for the proxy to say that nobody answers there. No other application gets an address.
    """
    return {
        INGRESS: Databags(
            app=ingress.request(
                application=state.application,
                model=state.model,
                port=layout.PORT,
                prefix=f"/{state.application}/",
            ),
            unit=ingress.unit_request(
                host=uris.unit_host(state.unit, state.model), ip=state.address
            ),
        ),
        OBJECT_STORAGE: Databags(app=object_storage.request()),
    }


def address(state: State) -> str:
    """Return where predictions are asked for: through the ingress, else inside the cluster."""
    return state.external_url or uris.service_url(state.application, state.model, layout.PORT)
