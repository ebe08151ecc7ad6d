"""The main story: deploy, log and register a model, serve it, ask it; and what may go wrong."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest
from conftest import Stack, kubectl

pytestmark = pytest.mark.abort_on_fail


async def test_deploys(stack: Stack):
    # WHEN the bundle is deployed as the README says, THEN everything becomes active
    await stack.deploy()


async def test_asks_for_a_password(stack: Stack):
    # GIVEN the address, but no login
    access = await stack.access()
    for url in (access.tracking_uri, f"{access.model_url}/ping"):
        # WHEN somebody opens it, THEN a login is asked for
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(url, timeout=30)
        assert refused.value.code == 401
        refused.value.close()


async def test_logs_and_registers_a_model(stack: Stack):
    # WHEN a client trains a model with nothing configured but address and login
    output = await stack.example("train_wine.py")
    # THEN it is registered
    assert "models:/wine@champion is version 1" in output


async def test_serves_the_model(stack: Stack):
    # GIVEN the registered model, WHEN the option names it
    await stack.juju("config", "mlflow-models", "models-uri=models:/wine@champion")
    await stack.settle()
    # THEN its predictions are the model's own (the example compares them)
    await stack.example("predict.py", (await stack.access()).model_url)


async def test_a_wrong_model_is_named_and_the_old_one_answers(stack: Stack):
    # WHEN the option names a model that does not exist
    await stack.juju("config", "mlflow-models", "models-uri=models:/no-such-model@champion")
    message = await stack.wait_for_status("mlflow-models", "blocked")
    # THEN the status says so, and the model from before goes on answering
    assert "no-such-model" in message
    await stack.example("predict.py", (await stack.access()).model_url)
    await stack.juju("config", "mlflow-models", "models-uri=models:/wine@champion")
    await stack.settle()


async def test_scales_up_and_down(stack: Stack):
    for scale in ("2", "1"):
        # WHEN the tracking server gets or loses a unit
        await stack.juju("scale-application", "mlflow-server", scale)
        await stack.settle()
        # THEN runs are logged as before
        await stack.example("notebook_run.py")


async def test_survives_a_lost_relation(stack: Stack):
    # WHEN the database goes away, THEN the server says what it misses
    await stack.juju("remove-relation", "mlflow-server:postgresql", "postgresql-k8s:database")
    await stack.wait_for_status("mlflow-server", "blocked")
    # WHEN it comes back, THEN the server serves again
    await stack.juju("integrate", "mlflow-server:postgresql", "postgresql-k8s:database")
    await stack.settle()
    await stack.example("notebook_run.py")


async def test_survives_a_killed_pod(stack: Stack):
    # WHEN the pods of the server and of the served model are deleted
    kubectl("delete", "pod", "mlflow-server-0", "mlflow-models-0", "-n", stack.namespace)
    await stack.settle()
    # THEN the model logged before is still there, and is served
    await stack.example("predict.py", (await stack.access()).model_url)
