"""The charms on images with the layout of the public ones: our images are a choice, no need."""

from __future__ import annotations

from onebox import stack
from tests.e2e import byhand, users

PATH = f"/{stack.SERVER}/"


def test_the_story_on_the_layout_of_the_public_images(hand: byhand.Hand) -> None:
    juju = hand.juju
    # GIVEN applications that run on our images, or that are not there yet
    lookalike = byhand.image("lookalike-mlflow")
    juju.refresh(stack.SERVER, resources={"mlflow-image": lookalike})
    if stack.MODELS in juju.status().apps:
        juju.refresh(stack.MODELS, resources={"mlflow-models-image": lookalike})
    else:
        juju.deploy(
            byhand.BUILD / "mlflow-models.charm", resources={"mlflow-models-image": lookalike}
        )
        juju.integrate(stack.MODELS, f"{stack.SERVER}:mlflow")
    juju.deploy(
        byhand.BUILD / "htpasswd-proxy.charm",
        resources={"nginx-image": byhand.image("lookalike-nginx")},
    )
    juju.integrate(f"{stack.SERVER}:ingress", f"{stack.PROXY}:upstreams")
    users.until(juju, lambda status: status.apps[stack.PROXY].is_active)
    users.until(juju, lambda status: status.apps[stack.SERVER].is_active)
    # THEN the story works on them
    hand.story("public-images")
    # and the password is asked for
    login = credentials(hand)
    host = f"{stack.PROXY}.{byhand.MODEL}.svc.cluster.local:8080"
    url = f"http://{hand.address(f'{stack.PROXY}/0')}:8080{PATH}"
    assert users.http(url, host=host).status == 401
    answer = users.http(url, host=host, login=login)
    assert answer.status == 200
    assert "<title>MLflow</title>" in answer.text


def credentials(hand: byhand.Hand) -> tuple[str, str]:
    """Return the first user of the proxy and the password, as its action tells to find it."""
    told = hand.juju.run(f"{stack.PROXY}/0", "get-credentials").results
    content = hand.juju.show_secret(told["secret"], reveal=True).content
    return told["username"], content["password"]
