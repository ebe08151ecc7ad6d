"""What the charm writes into its databags."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import nginx
from mlflow_kit import uris
from mlflow_kit.interfaces import basic_auth, ingress
from mlflow_kit.workload import Health
from state import State


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outgoing:
    """Databags to save; an empty value removes its key.

    Attributes:
        upstreams: application databag of each upstream, by relation id.
        basic_auth: application databag of each relation with an account, by relation id.
        ingress_app: application databag for the ingress.
        ingress_unit: unit databag for the ingress, which every unit saves.
    """

    upstreams: Mapping[int, Mapping[str, str]]
    basic_auth: Mapping[int, Mapping[str, str]]
    ingress_app: Mapping[str, str]
    ingress_unit: Mapping[str, str]


def outgoing(state: State, health: Health) -> Outgoing:
    """Return the databags; nobody is sent to a proxy that does not serve.

    While nginx starts, or an ingress has not given its address yet, what was said before stays
    and nothing new is said: applications restart when their address changes.
    """
    inside = uris.service_url(state.application, state.model, nginx.PORT)
    endpoints = [
        basic_auth.Endpoint(
            application=upstream.request.application,
            model=upstream.request.model,
            url=f"{inside}/{upstream.path}",
            external_url=f"{state.external_url}/{upstream.path}" if state.external_url else "",
        )
        for upstream in state.upstreams
    ]
    base = state.external_url or inside
    request = Outgoing(
        upstreams={},
        basic_auth={},
        ingress_app=ingress.request(
            application=state.application,
            model=state.model,
            port=nginx.PORT,
            prefix=f"/{state.application}/",
        ),
        ingress_unit=ingress.unit_request(
            host=uris.unit_host(state.unit, state.model), ip=state.address
        ),
    )
    if health.starting or (health.ok and state.awaits_address):
        return request
    return dataclasses.replace(
        request,
        upstreams={
            **{number: ingress.withdrawal() for number in state.unserved},
            **{
                upstream.relation_id: ingress.answer(
                    upstream.request, f"{base}/{upstream.path}" if health.ok else ""
                )
                for upstream in state.upstreams
            },
        },
        basic_auth={
            number: basic_auth.write(endpoints, secret if health.ok else "")
            for number, secret in state.clients.items()
        },
    )
