"""MLflow's application, as uvicorn's workers import it: ``uvicorn application:app``."""

import collector
import orphans

orphans.end_with_parent()
with collector.paused():
    from mlflow.server.fastapi_app import app

__all__ = ["app"]
