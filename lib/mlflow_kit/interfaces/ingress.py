"""`ingress`: two wires that share one name, spoken in one databag.

IngressPerApp v2 (traefik-k8s, istio-ingress-k8s, nginx-ingress-integrator and others): every
value is JSON, defaults are left out, and an answer holds the address. SDI v2 (istio-pilot): a
route is sent and no address comes back. Their keys do not overlap, so a requirer sends both and
sees by the answer who is there. Both sides are here: the MLflow charms ask, htpasswd-proxy asks
and answers.

Source: canonical/traefik-k8s-operator ``ingress`` v2.21 and canonical/istio-operators.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence

from mlflow_kit import uris
from mlflow_kit.databag import Absent, Invalid
from mlflow_kit.interfaces import _parse, sdi

_VERSION = "v2"
_VERSIONS = ("v2", "v1")
"""What the provider understands, best first; v1 knows no namespace."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ingress:
    """What the provider answered.

    Attributes:
        url: address from outside, without a trailing slash; empty with a provider that routes
            to us but does not say from where (istio-pilot).
    """

    url: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Requirer:
    """An application that wants to be reached from outside.

    Attributes:
        application: its name, which is the name of its Kubernetes Service too.
        model: its model, which is the Kubernetes namespace.
        port: its TCP port.
        scheme: ``http`` or ``https``: how to talk to it.
        strip_prefix: whether it expects paths without the prefix that it was given.
        hosts: addresses of its units, and names of those that sent no address, sorted; empty
            with the SDI wire, which sends none.
        sdi: the version of the SDI wire, which takes no address as answer, if it spoke only
            that; else empty.
    """

    application: str
    model: str
    port: int
    scheme: str = "http"
    strip_prefix: bool = False
    hosts: tuple[str, ...] = ()
    sdi: str = ""


def request(*, application: str, model: str, port: int, prefix: str) -> dict[str, str]:
    """Return what the requirer's leader saves in the application databag.

    Args:
        application: name of the application.
        model: name of its model.
        port: port of its Service.
        prefix: path that istio-pilot routes to us, with slashes at both ends; the other
            providers choose a path themselves. Either way it is stripped before it reaches us.
    """
    return {
        "model": json.dumps(model),
        "name": json.dumps(application),
        "port": json.dumps(port),
        "strip-prefix": json.dumps(True),
        **sdi.message(
            _VERSION,
            {
                "service": application,
                "namespace": model,
                "port": port,
                "prefix": prefix,
                "rewrite": "/",
            },
        ),
    }


def unit_request(*, host: str, ip: str | None) -> dict[str, str]:
    """Return what every unit of the requirer saves in its unit databag."""
    return {"host": json.dumps(host), "ip": json.dumps(ip) if ip else ""}


def read(bag: Mapping[str, str]) -> Absent | Invalid | Ingress:
    """Read the provider's application databag."""
    answer = _parse.json_value(bag, "ingress")
    if isinstance(answer, Invalid):
        return answer
    if answer is None:
        return Ingress(url="") if sdi.speaks(bag) else Absent("an address")
    found = _parse.mapping(answer, "ingress")
    if isinstance(found, Invalid):
        return found
    url = _parse.text(found.get("url"), "ingress url")
    if isinstance(url, Invalid):
        return url
    try:
        return Ingress(url=uris.parse_web(url).geturl())
    except ValueError as error:
        return Invalid(f"ingress url {error}")


def read_requirer(
    app: Mapping[str, str], units: Sequence[Mapping[str, str]], *, model: str
) -> Absent | Invalid | Requirer:
    """Read what a requirer asks for.

    Args:
        app: the requirer's application databag.
        units: the databags of its units.
        model: the provider's own model, which is where an SDI v1 requirer is.
    """
    if app.get("name") or app.get("model") or app.get("port"):
        return _read_per_app(app, units)
    if sdi.speaks(app):
        return _read_sdi(app, model)
    return Absent("a request")


def answer(requirer: Requirer, url: str) -> dict[str, str]:
    """Return what the provider's leader saves for a requirer; an empty URL withdraws it."""
    if requirer.sdi:
        return sdi.versions(requirer.sdi)
    return {"ingress": json.dumps({"url": url}) if url else ""}


def withdrawal() -> dict[str, str]:
    """Return what the provider's leader saves for a requirer that it cannot serve."""
    return {"ingress": ""}


def greeting(app: Mapping[str, str]) -> dict[str, str]:
    """Return what the provider saves before a requirer's data is there.

    An SDI requirer sends its route only to a provider that has said its versions. Exactly one
    is said, the one that the answer is given in: SDI writes several in random order.
    """
    version = sdi.common(app, _VERSIONS)
    return sdi.versions(version) if version and not app.get("name") else {}


def _read_per_app(
    app: Mapping[str, str], units: Sequence[Mapping[str, str]]
) -> Absent | Invalid | Requirer:
    for key in ("name", "model", "port"):
        if not app.get(key):
            return Absent(f"the {key} of its request")
    name = _label(_parse.json_value(app, "name"), "name")
    if isinstance(name, Invalid):
        return name
    model = _label(_parse.json_value(app, "model"), "model")
    if isinstance(model, Invalid):
        return model
    port = _parse.port(_parse.json_value(app, "port"))
    if isinstance(port, Invalid):
        return port
    # A null is how some requirers write "not set".
    scheme = _parse.json_value(app, "scheme")
    if scheme not in (None, "http", "https"):
        return Invalid("scheme is neither http nor https")
    stripped = _parse.json_value(app, "strip-prefix")
    strip = _parse.boolean(False if stripped is None else stripped, "strip-prefix")
    if isinstance(strip, Invalid):
        return strip
    hosts = _unit_hosts(units)
    if isinstance(hosts, Invalid):
        return hosts
    return Requirer(
        application=name,
        model=model,
        port=port,
        scheme=str(scheme or "http"),
        strip_prefix=strip,
        hosts=hosts,
    )


def _unit_hosts(units: Sequence[Mapping[str, str]]) -> tuple[str, ...] | Invalid:
    hosts: set[str] = set()
    for bag in units:
        # The address first: nginx resolves a name only once, and a new address of a pod comes
        # with a relation-changed event.
        value = _parse.json_value(bag, "ip") or _parse.json_value(bag, "host")
        if value is None:
            # The unit has joined and not written yet.
            continue
        host = value if isinstance(value, Invalid) else _parse.text(value, "host")
        if isinstance(host, Invalid):
            return host
        if not uris.is_host(host):
            return Invalid("host is neither a name nor an address")
        hosts.add(host)
    return tuple(sorted(hosts))


def _read_sdi(app: Mapping[str, str], model: str) -> Absent | Invalid | Requirer:
    version = sdi.common(app, _VERSIONS)
    data = sdi.read(app, version or _VERSION)
    if isinstance(data, (Absent, Invalid)):
        return data
    service = _label(data.get("service"), "service")
    if isinstance(service, Invalid):
        return service
    given = data.get("namespace")
    namespace = _label(model if given is None and version == "v1" else given, "namespace")
    if isinstance(namespace, Invalid):
        return namespace
    port = _parse.port(data.get("port"))
    if isinstance(port, Invalid):
        return port
    prefix = _parse.text(data.get("prefix"), "prefix")
    if isinstance(prefix, Invalid):
        return prefix
    # Without ``rewrite`` the path is passed on as it came.
    rewrite = data.get("rewrite", prefix)
    if rewrite not in ("/", prefix):
        return Invalid("rewrite is neither / nor the prefix")
    return Requirer(
        application=service,
        model=namespace,
        port=port,
        strip_prefix=rewrite == "/",
        sdi=version,
    )


def _label(value: object, name: str) -> str | Invalid:
    """Return the name of an application or a model: one label of a DNS name."""
    if isinstance(value, Invalid):
        return value
    if not isinstance(value, str) or "." in value or not uris.is_host(value):
        return Invalid(f"{name} is not a name")
    return value
