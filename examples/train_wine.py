"""Train a classifier on the wine data, log it to MLflow, register it and call it the champion.

Everything that concerns the tracking server comes from the environment (MLFLOW_TRACKING_URI,
and MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD behind a password):

    python train_wine.py [--epochs 10] [--model wine] [--alias champion]
"""

from __future__ import annotations

import argparse
import warnings

import mlflow
import mlflow.sklearn
from mlflow import models
from sklearn import datasets, linear_model, model_selection, pipeline, preprocessing

EXPERIMENT = "wine"
SEED = 7


def main() -> None:
    arguments = parse_arguments()
    version = train(arguments.epochs, arguments.model, arguments.alias)
    print(f"models:/{arguments.model}@{arguments.alias} is version {version}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train, log and register a wine classifier.")
    parser.add_argument("--epochs", type=int, default=10, help="passes over the training data")
    parser.add_argument("--model", default="wine", help="name in the model registry")
    parser.add_argument("--alias", default="champion", help="alias of the new version")
    return parser.parse_args()


def train(epochs: int, name: str, alias: str) -> str:
    """Train one model in a run of its own, and give its version an alias.

    Args:
        epochs: Passes over the training data; accuracy and loss are logged after each.
        name: Name of the registered model.
        alias: Alias of the new version.

    Returns:
        The version that the registry gave to it.
    """
    data = datasets.load_wine(as_frame=True)
    features, validation_features, target, validation_target = model_selection.train_test_split(
        data.data, data.target, test_size=0.25, random_state=SEED, stratify=data.target
    )
    scaler = preprocessing.StandardScaler().fit(features)
    classifier = linear_model.SGDClassifier(loss="log_loss", alpha=0.001, random_state=SEED)
    model = pipeline.Pipeline([("scale", scaler), ("classify", classifier)])

    mlflow.set_experiment(EXPERIMENT)
    with mlflow.start_run():
        mlflow.log_params({"epochs": epochs, "alpha": classifier.alpha, "loss": classifier.loss})
        for epoch in range(1, epochs + 1):
            classifier.partial_fit(scaler.transform(features), target, classes=[0, 1, 2])
            mlflow.log_metrics(
                {
                    "accuracy": model.score(features, target),
                    "validation_accuracy": model.score(validation_features, validation_target),
                },
                step=epoch,
            )
        example = validation_features.head(3)
        logged = mlflow.sklearn.log_model(
            model,
            name="model",
            signature=models.infer_signature(example, model.predict(example)),
            input_example=example,
            # Left to find them out, MLflow would load the model once more in another process.
            pip_requirements=mlflow.sklearn.get_default_pip_requirements(include_skops=True),
            registered_model_name=name,
        )
    version = str(logged.registered_model_version)
    mlflow.MlflowClient().set_registered_model_alias(name, alias, version)
    return version


if __name__ == "__main__":
    # MLflow warns that a signature with integers cannot hold missing values; this data has none.
    warnings.filterwarnings("ignore", message=".*integer column.*")
    main()
