"""Checks that several interfaces share; each answers `Invalid` instead of raising."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import cast

import yaml

from mlflow_kit import secrets
from mlflow_kit.databag import Absent, Invalid

_SECRET_URI = re.compile(r"(secret:)?(//[\w-]+/)?[\w-]+", re.ASCII)
"""With or without the model that owns the secret (Juju's documentation, "Secret URI")."""


def json_value(bag: Mapping[str, str], key: str) -> object:
    """Return the value of a key that holds JSON; None when it is not there."""
    text = bag.get(key, "")
    if not text:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return Invalid(f"{key} is not JSON")


def yaml_mapping(bag: Mapping[str, str], key: str) -> Mapping[str, object] | Invalid:
    """Return the value of a key that holds a YAML mapping with text keys."""
    try:
        value: object = yaml.safe_load(bag.get(key, ""))
    except (yaml.YAMLError, ValueError, RecursionError):
        return Invalid(f"{key} is not YAML")
    return mapping(value, key)


def mapping(value: object, name: str) -> Mapping[str, object] | Invalid:
    """Return the value as a mapping with text keys."""
    if not isinstance(value, dict):
        return Invalid(f"{name} is not a mapping")
    found = cast("dict[object, object]", value)
    if not all(isinstance(key, str) for key in found):
        return Invalid(f"{name} has a key that is not text")
    return cast("dict[str, object]", found)


def secret(
    bag: Mapping[str, str], key: str, read: secrets.Reader
) -> Mapping[str, str] | Absent | Invalid:
    """Return the content of the secret whose URI is the value of a key that is there."""
    if not _SECRET_URI.fullmatch(bag[key]):
        return Invalid(f"{key} is not the URI of a secret")
    content = read(bag[key])
    return Absent(f"a grant of {key}") if content is None else content


def text(value: object, name: str) -> str | Invalid:
    """Return the value as a non-empty text without control characters."""
    if not isinstance(value, str) or not value:
        return Invalid(f"{name} is not a text")
    if has_control(value):
        return Invalid(f"{name} has control characters")
    return value


def port(value: object, name: str = "port") -> int | Invalid:
    """Return the value as a TCP port; a whole number, as number or as text."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return Invalid(f"{name} is not a number")
    digits = str(value).removesuffix(".0")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 5):
        return Invalid(f"{name} is not a whole number between 1 and 65535")
    found = int(digits)
    if not 0 < found <= 65535:
        return Invalid(f"{name} is not a whole number between 1 and 65535")
    return found


def boolean(value: object, name: str) -> bool | Invalid:
    """Return the value as a truth value."""
    if not isinstance(value, bool):
        return Invalid(f"{name} is not true or false")
    return value


def has_control(value: str) -> bool:
    """Whether the text has characters that end a line or a string in a file."""
    return any(
        ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 or char in "\u2028\u2029" for char in value
    )
