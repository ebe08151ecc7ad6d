"""Use MLflow as a data scientist does, one operation after the other, and print what came of it.

The tracking server comes from the environment alone. Each line of standard input is a JSON list of
operations, which are names, or lists of a name and arguments; empty, it stands for all. The answer
is a line with a JSON object: for each name its result, or the HTTP status and the error with which
the server has refused it.

    echo '["log_run", ["train_wine", "my-wine"]]' | python session.py
"""

from __future__ import annotations

import json
import logging
import pathlib
import sys
import tempfile
from collections.abc import Callable

import mlflow
import mlflow.sklearn
import requests
from mlflow import artifacts, exceptions
from mlflow.store.artifact import artifact_repository_registry as registry
from sklearn import datasets, linear_model

sys.path.append("/examples")
import predict
import train_wine as wine

EXPERIMENT = "session"
MODEL = "session-model"

client = mlflow.MlflowClient()
features, target = datasets.load_iris(return_X_y=True, as_frame=True)


def run_id() -> str:
    """Return the newest run of the experiment, or one that is not there."""
    found = mlflow.search_runs(experiment_names=[EXPERIMENT], output_format="list", max_results=1)
    return found[0].info.run_id


def log_params() -> object:
    mlflow.set_experiment(EXPERIMENT)
    with mlflow.start_run() as run:
        mlflow.log_params({"alpha": 0.5, "päram": "wert"})
    return client.get_run(run.info.run_id).data.params


def log_metrics() -> object:
    mlflow.set_experiment(EXPERIMENT)
    with mlflow.start_run() as run:
        for step, value in enumerate([0.5, 0.25, 0.125]):
            mlflow.log_metric("loss", value, step=step)
    return [entry.value for entry in client.get_metric_history(run.info.run_id, "loss")]


def log_model() -> object:
    mlflow.set_experiment(EXPERIMENT)
    model = linear_model.LogisticRegression(max_iter=200).fit(features, target)
    with mlflow.start_run():
        mlflow.log_text("a note", "notes/note.txt")
        logged = mlflow.sklearn.log_model(
            model,
            name="model",
            input_example=features.head(2),
            registered_model_name=MODEL,
            # Named, or MLflow loads the model in a process of its own to find them out.
            pip_requirements=["scikit-learn"],
        )
    loaded = mlflow.sklearn.load_model(logged.model_uri)
    return bool((loaded.predict(features) == model.predict(features)).all())


def register() -> object:
    client.create_registered_model(f"{MODEL}-empty")
    found = client.get_registered_model(f"{MODEL}-empty").name
    client.delete_registered_model(f"{MODEL}-empty")
    return found


def set_alias() -> object:
    version = max(int(one.version) for one in client.search_model_versions(f"name='{MODEL}'"))
    client.set_registered_model_alias(MODEL, "best", str(version))
    return int(client.get_model_version_by_alias(MODEL, "best").version) == version


def list_artifacts() -> object:
    return [file.path for file in client.list_artifacts(run_id(), "notes")]


def download_artifacts() -> object:
    with tempfile.TemporaryDirectory() as folder:
        path = artifacts.download_artifacts(
            run_id=run_id(), artifact_path="notes/note.txt", dst_path=folder
        )
        return pathlib.Path(path).read_text()


def upload_artifact() -> object:
    """Send a file to the artifact API itself, which needs no run."""
    repository = registry.get_artifact_repository("mlflow-artifacts:/session-upload")
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "sent.txt")
        file.write_text("sent")
        repository.log_artifact(str(file))
    return [file.path for file in repository.list_artifacts()]


def runs() -> object:
    """The ids of all runs of all experiments."""
    experiments = [one.experiment_id for one in client.search_experiments()]
    found = mlflow.search_runs(experiments, output_format="list", max_results=10000)
    return sorted(run.info.run_id for run in found)


def model_uris() -> object:
    """The forms in which the champion of the wine models can be named."""
    version = client.get_model_version_by_alias("wine", "champion")
    logged = mlflow.get_logged_model(version.source.removeprefix("models:/"))
    root = logged.artifact_location
    return {
        "models": f"models:/wine/{version.version}",
        "runs": f"runs:/{version.run_id}/model",
        "mlflow-artifacts": root,
        "s3": root.replace("mlflow-artifacts:/", "s3://mlflow/"),
    }


def newest_run() -> object:
    """The newest run of the wine example, with its experiment."""
    found = mlflow.search_runs(experiment_names=["wine"], output_format="list", max_results=1)
    return {"run": found[0].info.run_id, "experiment": found[0].info.experiment_id}


def log_run() -> object:
    """Log a small run and return its id."""
    mlflow.set_experiment(EXPERIMENT)
    with mlflow.start_run() as run:
        mlflow.log_param("after", "a change")
        mlflow.log_text("still here", "note.txt")
    return run.info.run_id


def train_wine(name: str, epochs: str = "2") -> object:
    """Train, log and register the example's model, and make it the champion."""
    return wine.train(epochs=int(epochs), name=name, alias="champion")


def predictions(url: str, uri: str) -> object:
    """What a served wine model says, and what the model that is named says itself."""
    return predict.compare(url, uri)


OPERATIONS: dict[str, Callable[..., object]] = {
    function.__name__: function
    for function in (
        log_params,
        log_metrics,
        log_model,
        register,
        set_alias,
        list_artifacts,
        download_artifacts,
        upload_artifact,
    )
}
"""What a data scientist does, in an order in which each finds what it needs."""

QUESTIONS: dict[str, Callable[..., object]] = {
    function.__name__: function
    for function in (runs, model_uris, newest_run, log_run, train_wine, predictions)
}
"""What tests want besides."""


def outcome(operation: Callable[..., object], arguments: list[str]) -> object:
    try:
        return operation(*arguments)
    except exceptions.MlflowException as error:
        return {"status": error.get_http_status_code(), "error": str(error).partition("\n")[0]}
    except requests.HTTPError as error:
        status = None if error.response is None else error.response.status_code
        return {"status": status, "error": str(error)}


def main() -> None:
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    # MLflow prints links to runs on standard output, which is for the result here.
    result, sys.stdout = sys.stdout, sys.stderr
    known = OPERATIONS | QUESTIONS
    for line in sys.stdin:
        wanted = json.loads(line) or list(OPERATIONS)
        calls = [[one] if isinstance(one, str) else one for one in wanted]
        answer = {name: outcome(known[name], arguments) for name, *arguments in calls}
        print(json.dumps(answer), file=result, flush=True)


if __name__ == "__main__":
    main()
