"""Ask a served wine model for predictions and compare them with the model's own.

    python predict.py URL [--model models:/wine@champion]

URL is where mlflow-models answers, without `/invocations`. The tracking server, from which the
model is loaded for the comparison, and the login for both come from the environment
(MLFLOW_TRACKING_URI, MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD).
"""

from __future__ import annotations

import argparse
import os
import sys

import mlflow.pyfunc
import pandas
import requests
from sklearn import datasets


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare served predictions with the model's.")
    parser.add_argument("url", help="address of the served model")
    parser.add_argument("--model", default="models:/wine@champion", help="the model it serves")
    arguments = parser.parse_args()

    served, expected = compare(arguments.url, arguments.model)
    print(f"served:   {served}")
    print(f"expected: {expected}")
    return 0 if served == expected else 1


def compare(url: str, model: str) -> tuple[list[int], list[int]]:
    """Return what a served model predicts, and what the model itself does.

    Args:
        url: Address of the served model, without `/invocations`.
        model: URI of the model.

    Raises:
        requests.HTTPError: The request was refused.
    """
    rows = datasets.load_wine(as_frame=True).data.iloc[::20]
    return predict(url, rows), mlflow.pyfunc.load_model(model).predict(rows).tolist()


def predict(url: str, rows: pandas.DataFrame) -> list[int]:
    """Send rows to a served model.

    Args:
        url: Address of the served model, without `/invocations`.
        rows: One observation per row; the columns are those of the model's signature.

    Raises:
        requests.HTTPError: The request was refused.
    """
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    answer = requests.post(
        f"{url.rstrip('/')}/invocations",
        json={"dataframe_split": rows.to_dict(orient="split")},
        auth=(user, os.environ.get("MLFLOW_TRACKING_PASSWORD", "")) if user else None,
        timeout=60,
    )
    answer.raise_for_status()
    return answer.json()["predictions"]


if __name__ == "__main__":
    sys.exit(main())
