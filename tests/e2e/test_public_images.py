"""The charms on images with the layout of the public ones: our images are a choice, no need."""

from __future__ import annotations

from onebox import pods, stack
from tests.e2e import byhand, users


def test_the_story_on_the_layout_of_the_public_images(hand: byhand.Hand) -> None:
    # GIVEN applications that run on our images, or that are not there yet
    hand.juju.refresh(stack.SERVER, resources={"mlflow-image": byhand.image("lookalike-mlflow")})
    hand.ensure_models("lookalike-mlflow")
    hand.ensure_proxy("lookalike-nginx")
    users.until(hand.juju, lambda _: len(workloads_on_lookalikes()) == 3)
    users.rest(hand.juju, users.TIMEOUT)
    for name in (stack.SERVER, stack.PROXY):
        users.until(hand.juju, lambda status, name=name: status.apps[name].is_active)
    # THEN the story works on them
    hand.story("public-images")
    # and the password is asked for
    assert hand.page().status == 401
    answer = hand.page(hand.credentials())
    assert answer.status == 200
    assert "<title>MLflow</title>" in answer.text


def workloads_on_lookalikes() -> list[str]:
    """Return the containers of this onebox that run such an image."""
    images = [byhand.image(name) for name in ("lookalike-mlflow", "lookalike-nginx")]
    filters = [f"label=onebox={users.HOME.prefix}", *(f"ancestor={image}" for image in images)]
    # Filters of one kind add up: one image or the other.
    chosen = [f"--filter={one}" for one in filters]
    return pods.podman("ps", *chosen, "--format", "{{.Names}}").split()
