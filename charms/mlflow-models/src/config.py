"""The charm's options as a frozen value, with their bounds."""

from __future__ import annotations

import dataclasses

import model_uri
from mlflow_kit import options

LOG_LEVELS = ("critical", "error", "warning", "info", "debug")
"""Levels of uvicorn; `debug` also logs each request."""

MAX_WORKERS = 64
MAX_REQUEST_TIMEOUT = 3600


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The options of charmcraft.yaml, in its order.

    Attributes:
        models_uri: which model is served; empty for none.
        workers: server processes, each with a copy of the model.
        log_level: one of `LOG_LEVELS`.
        request_timeout: seconds that a prediction may take.

    Raises:
        ValueError: an option is out of its bounds; the message names option, value and bounds.
    """

    models_uri: str
    workers: int
    log_level: str
    request_timeout: int

    def __post_init__(self) -> None:
        if self.models_uri:
            try:
                model_uri.parse(self.models_uri)
            except ValueError as error:
                raise ValueError(f"option models-uri is {error}") from None
        _check_bounds("workers", self.workers, MAX_WORKERS)
        if self.log_level not in LOG_LEVELS:
            raise options.error("log-level", self.log_level, f"one of {', '.join(LOG_LEVELS)}")
        _check_bounds("request-timeout", self.request_timeout, MAX_REQUEST_TIMEOUT)

    @property
    def uri(self) -> model_uri.ModelUri | None:
        """Which model is served; None for none."""
        return model_uri.parse(self.models_uri) if self.models_uri else None


def _check_bounds(name: str, value: int, upper: int) -> None:
    if not 1 <= value <= upper:
        raise options.error(name, value, f"a number from 1 to {upper}")
