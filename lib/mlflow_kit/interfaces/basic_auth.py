"""`basic_auth`: an account at the password proxy, and the addresses to use it at, both sides.

Provider's application databag: ``endpoints``, a JSON list of objects (``application``,
``model``, ``url``, optional ``external-url``), and ``secret-user``, the URI of a Juju secret
with ``username`` and ``password``, granted to this relation alone. The requirer writes nothing.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import cast

from mlflow_kit import secrets, uris
from mlflow_kit.databag import Absent, Invalid
from mlflow_kit.interfaces import _parse

_ENDPOINTS = "endpoints"
_ACCOUNT = "secret-user"
_KEYS = ("username", "password")


@dataclasses.dataclass(frozen=True, kw_only=True, order=True)
class Endpoint:
    """One application behind the proxy.

    Attributes:
        application: its name.
        model: its model.
        url: its address through the proxy inside the cluster, without a trailing slash.
        external_url: its address through the ingress outside; empty when there is none.
    """

    application: str
    model: str
    url: str
    external_url: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Account:
    """An account and where it is good for.

    Attributes:
        endpoints: applications behind the proxy, sorted.
        username: user name.
        password: password.
        secret: URI of the Juju secret that holds both, for messages to the user.
    """

    endpoints: tuple[Endpoint, ...]
    username: str
    password: str = dataclasses.field(repr=False)
    secret: str

    def endpoint(self, application: str, model: str) -> Endpoint | None:
        """Return the addresses of an application, or None when the proxy does not serve it."""
        for found in self.endpoints:
            if (found.application, found.model) == (application, model):
                return found
        return None


def secret_content(username: str, password: str) -> dict[str, str]:
    """Return the content of the secret whose URI the provider writes."""
    return dict(zip(_KEYS, (username, password), strict=True))


def write(endpoints: Iterable[Endpoint], secret: str) -> dict[str, str]:
    """Return what the provider's leader saves; without an account's secret, nothing."""
    if not secret:
        return {_ENDPOINTS: "", _ACCOUNT: ""}
    entries = [
        {
            "application": endpoint.application,
            "model": endpoint.model,
            "url": endpoint.url,
            **({"external-url": endpoint.external_url} if endpoint.external_url else {}),
        }
        for endpoint in sorted(endpoints)
    ]
    return {_ENDPOINTS: json.dumps(entries, sort_keys=True), _ACCOUNT: secret}


def read(bag: Mapping[str, str], secret: secrets.Reader) -> Absent | Invalid | Account:
    """Read the provider's application databag."""
    if not bag.get(_ACCOUNT):
        return Absent("an account")
    content = _parse.secret(bag, _ACCOUNT, secret)
    if isinstance(content, Absent | Invalid):
        return content
    username, password = (content.get(key, "") for key in _KEYS)
    if not username or not password:
        return Invalid("the secret has no username and password")
    if _parse.has_control(username) or _parse.has_control(password):
        return Invalid("the account has control characters")
    entries = _parse.json_value(bag, _ENDPOINTS)
    if isinstance(entries, Invalid):
        return entries
    if entries is not None and not isinstance(entries, list):
        return Invalid(f"{_ENDPOINTS} is not a list")
    endpoints: list[Endpoint] = []
    for entry in cast("list[object]", entries or []):
        endpoint = _endpoint(entry)
        if isinstance(endpoint, Invalid):
            return endpoint
        endpoints.append(endpoint)
    return Account(
        endpoints=tuple(sorted(endpoints)),
        username=username,
        password=password,
        secret=bag[_ACCOUNT],
    )


def _endpoint(value: object) -> Endpoint | Invalid:
    entry = _parse.mapping(value, _ENDPOINTS)
    if isinstance(entry, Invalid):
        return entry
    names: dict[str, str] = {}
    for key in ("application", "model", "url"):
        text = _parse.text(entry.get(key), key)
        if isinstance(text, Invalid):
            return text
        names[key] = text
    external = entry.get("external-url") or ""
    if not isinstance(external, str):
        return Invalid("external-url is not a text")
    try:
        url = uris.parse_web(names["url"]).geturl()
        external = uris.parse_web(external).geturl() if external else ""
    except ValueError as error:
        return Invalid(f"an address in {_ENDPOINTS} {error}")
    return Endpoint(
        application=names["application"],
        model=names["model"],
        url=url,
        external_url=external,
    )
