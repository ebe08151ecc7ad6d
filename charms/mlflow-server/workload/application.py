"""MLflow's application, as uvicorn's workers import it: ``uvicorn application:app``."""

import collector

with collector.paused():
    from mlflow.server.fastapi_app import app

__all__ = ["app"]
