"""Which model URIs are taken, and that nothing else ever gets further than a sentence."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

import model_uri

GOOD = [
    "models:/wine/3",
    "models:/wine/latest",
    "models:/wine@champion",
    "models:/wine quality/3",
    "models:/a@b.example@champion",
    "models:/$(id)/3",
    "models:/вино@champion",
    "models:/m-0123456789abcdef0123456789abcdef",
    "runs:/13fc5dcc427e40d78e0569a6b5fa3ac5/model",
    "runs:/13fc5dcc427e40d78e0569a6b5fa3ac5/deep/path/model",
    "mlflow-artifacts:/1/models/m-0123/artifacts",
    "s3://models/wine/v 2",
    "s3://models/wine/",
    "s3://models",
]

BAD = [
    ("-models:/wine/3", "is not a model URI"),
    ("--help", "is not a model URI"),
    ("wine", "is not a model URI"),
    ("$(id)", "is not a model URI"),
    ("`id`", "is not a model URI"),
    ("/etc/passwd", "is not a model URI"),
    ("file:///etc/passwd", "is not a model URI"),
    ("http://example.com/model", "is not a model URI"),
    ("dbfs:/model", "is not a model URI"),
    ("Models:/wine/3", "is not a model URI"),
    (" models:/wine/3", "begins or ends with a blank"),
    ("models:/wine/3 ", "begins or ends with a blank"),
    ("models:/wine/3\n", "has control characters"),
    ("models:/wi\nne/3", "has control characters"),
    ("models:/wine\x00/3", "has control characters"),
    ("models:/wine/3\u2028x", "has control characters"),
    ("models:wine/3", "names no model after models:/"),
    ("models://profile/wine/3", "names no model after models:/"),
    ("models:/", "has neither a version nor an alias"),
    ("models:/wine", "has neither a version nor an alias"),
    ("models:/m-0123", "has neither a version nor an alias"),
    ("models:/wine/0", "has a version that is neither a number nor 'latest'"),
    ("models:/wine/-1", "has a version that is neither a number nor 'latest'"),
    ("models:/wine/Production", "has a version that is neither a number nor 'latest'"),
    ("models:/wine/3/MLmodel", "has a version that is neither a number nor 'latest'"),
    ("models:/wine/", "has a version that is neither a number nor 'latest'"),
    ("models:/wine@", "has an alias that the registry does not allow"),
    ("models:/wine@the best", "has an alias that the registry does not allow"),
    ("models:/../3", "has a name that the registry does not allow"),
    ("models:/@champion", "has a name that the registry does not allow"),
    ("models:/a:b/3", "has a name that the registry does not allow"),
    ("models:/wine?x/3", "has a name that the registry does not allow"),
    ("runs:/", "has no run ID after runs:/"),
    ("runs://13fc5dcc427e40d78e0569a6b5fa3ac5/model", "has no run ID after runs:/"),
    ("runs:/-x/model", "has no run ID after runs:/"),
    ("runs:/13fc5dcc427e40d78e0569a6b5fa3ac5", "has no path after the run ID"),
    ("runs:/13fc/../model", "has an empty part, '.' or '..' in its path"),
    ("mlflow-artifacts://example.com/1", "names another server than the related one"),
    ("mlflow-artifacts:/", "has an empty part, '.' or '..' in its path"),
    ("mlflow-artifacts:/1/%2e%2e/2", "has one of the characters ? # % \\ in its path"),
    ("s3:/models/wine", "has no bucket after s3://"),
    ("s3://", "has a bucket name that S3 does not allow"),
    ("s3://key:secret@models/wine", "has a bucket name that S3 does not allow"),
    ("s3://-models/wine", "has a bucket name that S3 does not allow"),
    ("s3://models//wine", "has an empty part, '.' or '..' in its path"),
    ("s3://models/wine?versionId=1", "has one of the characters ? # % \\ in its path"),
    (f"models:/{'a' * 2000}/3", "is longer than 1024 characters"),
]


@pytest.mark.parametrize("text", GOOD)
def test_takes_the_forms_of_mlflow(text: str):
    assert model_uri.parse(text).text == text


@pytest.mark.parametrize(("text", "reason"), BAD)
def test_refuses_the_rest_in_one_sentence(text: str, reason: str):
    with pytest.raises(ValueError, match="allowed is models:/NAME/VERSION") as caught:
        model_uri.parse(text)
    message = str(caught.value)
    assert f", which {reason}: allowed is " in message
    assert message.isprintable()
    assert len(message) < 400


def test_knows_what_each_form_needs():
    needs = {uri: model_uri.parse(uri).needs_tracking for uri in GOOD}
    assert {uri for uri, tracking in needs.items() if not tracking} == {
        uri for uri in GOOD if uri.startswith("s3:")
    }


_schemes = st.sampled_from(
    ["", "models:/", "models:", "runs:/", "runs:/0a1b/", "mlflow-artifacts:/", "s3://", "file:"]
)


@given(_schemes, st.text(max_size=40))
def test_whatever_is_taken_is_one_line_of_an_allowed_form(scheme: str, rest: str):
    text = scheme + rest
    found, message = None, ""
    try:
        found = model_uri.parse(text)
    except ValueError as error:
        message = str(error)
    assert message.isprintable()
    if found:
        assert found.text == text == text.strip()
        assert text.isprintable()
        assert text.partition(":")[0] in {"models", "runs", "mlflow-artifacts", "s3"}
        parts = text.partition(":")[2].split("/")
        assert ".." not in parts
        assert found.needs_tracking != found.needs_object_storage


_names = st.text(
    st.characters(codec="utf-8", exclude_characters="/:?", exclude_categories=("C", "Z")),
    min_size=1,
    max_size=50,
).filter(lambda name: name not in {".", ".."})


@given(_names, st.integers(min_value=1, max_value=10**9))
def test_takes_every_version_of_every_registered_name(name: str, version: int):
    assert model_uri.parse(f"models:/{name}/{version}").text == f"models:/{name}/{version}"


@given(_names, st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=50))
def test_takes_every_alias_of_every_registered_name(name: str, alias: str):
    assert model_uri.parse(f"models:/{name}@{alias}").text == f"models:/{name}@{alias}"
