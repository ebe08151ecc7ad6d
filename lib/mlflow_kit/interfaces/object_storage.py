"""`object-storage`: the SDI interface of the minio charm, requirer side.

Source: schema v1 in canonical/minio-operator. The credentials are the store's root account, in
clear in the databag, and no bucket comes with them: the interface has no better form.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from mlflow_kit import uris
from mlflow_kit.databag import Absent, Invalid
from mlflow_kit.interfaces import _parse, sdi

_VERSION = "v1"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectStorage:
    """An S3 endpoint and the account to use it with.

    Attributes:
        url: endpoint, for example ``http://minio.kubeflow.svc.cluster.local:9000``.
        access_key: access key id.
        secret_key: secret access key.
    """

    url: str
    access_key: str
    secret_key: str = dataclasses.field(repr=False)


def request() -> dict[str, str]:
    """Return what the requirer's leader saves."""
    return sdi.versions(_VERSION)


def read(bag: Mapping[str, str]) -> Absent | Invalid | ObjectStorage:
    """Read the provider's application databag."""
    data = sdi.read(bag, _VERSION)
    if isinstance(data, (Absent, Invalid)):
        return data
    values: dict[str, str] = {}
    for key in ("access-key", "secret-key", "service"):
        value = _parse.text(data.get(key), key)
        if isinstance(value, Invalid):
            return value
        values[key] = value
    port = _parse.port(data.get("port"))
    if isinstance(port, Invalid):
        return port
    secure = _parse.boolean(data.get("secure"), "secure")
    if isinstance(secure, Invalid):
        return secure
    host = values["service"]
    namespace = data.get("namespace")
    if namespace is not None:
        checked = _parse.text(namespace, "namespace")
        if isinstance(checked, Invalid):
            return checked
        host = uris.service_host(host, checked)
    if not uris.is_host(host):
        return Invalid("service and namespace do not make a host name")
    return ObjectStorage(
        url=f"{'https' if secure else 'http'}://{uris.Endpoint(host, port)}",
        access_key=values["access-key"],
        secret_key=values["secret-key"],
    )
