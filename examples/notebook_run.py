"""What a notebook does: log a run with a model, and read it back.

Nothing is configured here. In a notebook server that got its environment from the bundle,
MLFLOW_TRACKING_URI (and the login, if there is one) are set already.

    python notebook_run.py
"""

from __future__ import annotations

import warnings

import mlflow
import mlflow.sklearn
from sklearn import datasets, linear_model

EXPERIMENT = "notebook"


def main() -> None:
    mlflow.set_experiment(EXPERIMENT)
    features, target = datasets.load_diabetes(return_X_y=True, as_frame=True)
    model = linear_model.Ridge(alpha=0.1).fit(features, target)
    score = model.score(features, target)

    with mlflow.start_run() as run:
        mlflow.log_param("alpha", model.alpha)
        mlflow.log_metric("r2", score)
        mlflow.log_text("Ridge regression on the diabetes data.", "notes.txt")
        logged = mlflow.sklearn.log_model(
            model,
            name="model",
            input_example=features.head(3),
            # Left to find them out, MLflow would load the model once more in another process.
            pip_requirements=mlflow.sklearn.get_default_pip_requirements(include_skops=True),
        )

    stored = mlflow.get_run(run.info.run_id)
    loaded = mlflow.sklearn.load_model(logged.model_uri)
    same = (loaded.predict(features) == model.predict(features)).all()
    if stored.data.metrics["r2"] != score or not same:
        raise SystemExit("what was read back is not what was logged")
    print(f"run {run.info.run_id}: r2 {stored.data.metrics['r2']:.3f}, the model was read back")


if __name__ == "__main__":
    # MLflow advises against integer columns, which may have no missing values; there are none.
    warnings.filterwarnings("ignore", message=".*integer column.*")
    main()
