"""Bundles and relations: what is deployed, and what is refused before anything is deployed."""

from __future__ import annotations

import pathlib
import re
import typing

import hypothesis
import pytest
import yaml
from hypothesis import strategies as st

from onebox import bundlefile, bundles, charmfile, model

SERVER = model.Charm(
    "mlflow-server",
    "digest",
    "/server.charm",
    endpoints={
        "postgresql": model.EndpointSpec("postgresql", "postgresql_client", "requirer", 1),
        "mysql": model.EndpointSpec("mysql", "mysql_client", "requirer", 1),
        "object-storage": model.EndpointSpec("object-storage", "object-storage", "requirer"),
        "ingress": model.EndpointSpec("ingress", "ingress", "requirer"),
        "peers": model.EndpointSpec("peers", "mlflow_peers", "peer"),
    },
    resources={"mlflow-image": "mlflow:1"},
    storage={"data": model.StorageSpec("data")},
    options={
        "workers": model.Option("int", 0),
        "embedded": model.Option("boolean", False),
        "allowed-hosts": model.Option("string"),
        "ratio": model.Option("float", 0.5),
        "credentials": model.Option("secret"),
    },
)
DATABASE = model.Charm(
    "postgresql-k8s",
    "digest",
    "/database.charm",
    endpoints={
        "database": model.EndpointSpec("database", "postgresql_client", "provider"),
        "db-admin": model.EndpointSpec("db-admin", "pgsql", "provider"),
    },
    resources={"postgresql-image": ""},
)
ROUTER = model.Charm(
    "router",
    "digest",
    "/router.charm",
    endpoints={
        "ingress": model.EndpointSpec("ingress", "ingress", "requirer"),
        "upstreams": model.EndpointSpec("upstreams", "ingress", "provider"),
        "more": model.EndpointSpec("more", "ingress", "provider"),
    },
)
CHARMS = {"server.charm": SERVER, "database.charm": DATABASE, "router.charm": ROUTER}

BASE = """\
bundle: kubernetes
applications:
  mlflow:
    charm: ./server.charm
    scale: 1
    resources:
      mlflow-image: mlflow:1
    options:
      workers: 2
  db:
    charm: ./database.charm
    scale: 1
    trust: true
    resources:
      postgresql-image: postgresql:14
relations:
  - [mlflow:postgresql, db:database]
"""


def read_charm(path: pathlib.Path) -> model.Charm:
    if path.name not in CHARMS:
        raise charmfile.CharmError(f'no charm was found at "{path}"')
    return CHARMS[path.name]


def plan(
    tmp_path: pathlib.Path, text: str, *overlays: str, trust: bool = True, **more: typing.Any
) -> list[bundles.Step]:
    paths = [tmp_path / "bundle.yaml"]
    paths += [tmp_path / f"overlay-{number}.yaml" for number in range(len(overlays))]
    for path, content in zip(paths, (text, *overlays), strict=True):
        path.write_text(content)
    bundle = bundlefile.load(paths[0], paths[1:])
    return bundles.plan(bundle, trust=trust, read_charm=read_charm, **more)


def problems(tmp_path: pathlib.Path, text: str, *overlays: str, **more: typing.Any) -> list[str]:
    with pytest.raises(bundlefile.BundleError) as caught:
        plan(tmp_path, text, *overlays, **more)
    return [problem.replace(f"{tmp_path}/", "") for problem in caught.value.problems]


def test_a_sound_bundle_becomes_requests_in_order(tmp_path: pathlib.Path):
    steps = plan(tmp_path, BASE)

    assert [step["method"] for step in steps] == ["deploy", "deploy", "integrate"]
    assert steps[0]["params"] == {
        "charm": str(tmp_path / "server.charm"),
        "application": "mlflow",
        "config": {"workers": 2},
        "num_units": 1,
        "resources": {"mlflow-image": "mlflow:1"},
        "storage": {},
        "trust": False,
        "channel": "",
        "publish": [],
    }
    assert steps[1]["params"]["trust"]
    assert steps[2]["params"] == {"a": "mlflow:postgresql", "b": "db:database"}


def test_every_fault_is_told_at_once_with_its_place(tmp_path: pathlib.Path):
    text = """\
bundle: kubernetes
applications:
  mlflow:
    charm: ./server.charm
    resources:
      wrong-image: x
    options:
      workers: many
      colour: blue
    constraints: mem=2G
  db:
    charm: ./missing.charm
    scale: 1
  minio:
    charm: minio
    channel: ckf-1.10/stable
    scale: two
  router:
    charm: ./router.charm
    scale: 1
    num_units: 2
  Bad:
    charm: ./router.charm
    scale: -1
relations:
  - [mlflow:postgresql, nobody:database]
  - [mlflow:ingres, router:upstreams]
  - [mlflow:object-storage, router:upstreams]
  - [mlflow, router]
  - [mlflow:ingress]
saas: {}
"""
    found = problems(tmp_path, text)

    wanted = {
        6: 'has no resource "wrong-image"',
        8: 'option "workers" expected int, got "many"',
        9: 'unknown option "colour"',
        10: 'unknown field "constraints"',
        12: "no charm was found at",
        15: "Charmhub",
        17: '"scale": Expected `int | null`, got `str`',
        20: "cannot specify both scale and num_units",
        22: 'invalid application name "Bad"',
        24: "negative number of units",
        26: 'refers to application "nobody" not defined in this bundle',
        27: 'application "mlflow" has no "ingres" relation',
        28: "no relations found",
        29: "ambiguous relation",
        30: "is not a list of two endpoints",
        31: 'unknown field "saas"',
    }
    for line, words in wanted.items():
        assert any(item.startswith(f"bundle.yaml:{line}:") and words in item for item in found), (
            line,
            words,
            found,
        )
    assert 'bundle.yaml:4: application "mlflow": local charm missing OCI images' in "\n".join(
        found
    )
    assert any('"mlflow" has no scale' in item for item in found)


def test_a_fault_of_an_overlay_has_the_place_in_the_overlay(tmp_path: pathlib.Path):
    overlay = "applications:\n  mlflow:\n    options:\n      workers: no\n"

    assert problems(tmp_path, BASE, overlay) == [
        'overlay-0.yaml:4: application "mlflow": option "workers" expected int, got false'
    ]


def test_trust_has_to_be_given_as_juju_asks_for_it(tmp_path: pathlib.Path):
    (found,) = problems(tmp_path, BASE, trust=False)

    assert found == (
        "Bundle cannot be deployed without trusting applications with your cloud credentials.\n"
        "Please repeat the deploy command with the --trust argument if you consent to trust the"
        " following application(s):\n  - db"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("applications: [", "malformed YAML"),
        ("- a\n- b\n", "expected a mapping"),
        ("", "at least one application must be specified"),
        ("bundle: machines\napplications: {}\n", 'invalid type "machines"'),
        ("applications: 3\n", "applications is not a mapping"),
        ("applications: {a: {charm: ./a}}\nrelations: 3\n", "relations is not a list"),
        ("applications:\n  a: 3\n", 'application "a" has no body'),
        ("applications:\n  a:\n", 'application "a" has no body'),
        ("applications:\n  a: {scale: 1}\n", 'application "a" has no charm'),
        ("applications:\n  a: {scale: 1, scale: 2}\n", 'key "scale" is set twice'),
        ("applications: &a\n  b: *a\n", "recursive"),
    ],
)
def test_files_that_are_no_bundle_are_refused_in_one_sentence(
    tmp_path: pathlib.Path, text: str, words: str
):
    with pytest.raises(bundlefile.BundleError, match=words):
        plan(tmp_path, text)


def test_an_overlay_that_is_not_there_is_named(tmp_path: pathlib.Path):
    (tmp_path / "bundle.yaml").write_text(BASE)
    with pytest.raises(bundlefile.BundleError, match=r"nothing\.yaml: cannot be read"):
        bundlefile.load(tmp_path / "bundle.yaml", [tmp_path / "nothing.yaml"])


def test_an_overlay_takes_out_an_application_with_its_relations(tmp_path: pathlib.Path):
    steps = plan(tmp_path, BASE, "applications:\n  db:\n")

    assert [step["params"].get("application") for step in steps] == ["mlflow"]


def test_overlays_change_add_and_clear_as_in_juju(tmp_path: pathlib.Path):
    change = """\
applications:
  mlflow:
    scale: 3
    options: {workers: null, embedded: true}
    resources: {mlflow-image: mlflow:2}
  router:
    charm: ./router.charm
    scale: 1
    annotations: {onebox/publish: "8080:80, 9000:9000"}
relations:
  - [router:upstreams, mlflow:ingress]
---
applications:
  db: {trust: null}
"""
    steps = plan(tmp_path, BASE, change, trust=False)

    deployed = {step["params"]["application"]: step["params"] for step in steps[:3]}
    assert deployed["mlflow"]["config"] == {"embedded": True}
    assert deployed["mlflow"]["num_units"] == 3
    assert deployed["mlflow"]["resources"] == {"mlflow-image": "mlflow:2"}
    assert not deployed["db"]["trust"]
    assert deployed["router"]["publish"] == [[8080, 80], [9000, 9000]]
    assert steps[4]["params"] == {"a": "mlflow:ingress", "b": "router:upstreams"}


def test_an_empty_mapping_of_an_overlay_clears(tmp_path: pathlib.Path):
    steps = plan(tmp_path, BASE, "applications:\n  mlflow:\n    options: {}\n")

    assert steps[0]["params"]["config"] == {}


def test_a_charm_of_an_overlay_is_sought_beside_the_overlay(tmp_path: pathlib.Path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "bundle.yaml").write_text(BASE)
    overlay = tmp_path / "sub" / "o.yaml"
    overlay.write_text("applications:\n  db:\n    charm: ../build/database.charm\n")

    bundle = bundlefile.load(tmp_path / "bundle.yaml", [overlay])

    assert bundle.applications["db"]["charm"] == str(tmp_path / "build" / "database.charm")
    assert bundle.applications["mlflow"]["charm"] == str(tmp_path / "server.charm")


def test_options_are_read_from_files_beside_the_bundle(tmp_path: pathlib.Path):
    (tmp_path / "hosts").write_text("a,b")
    overlay = "applications:\n  mlflow:\n    options: {allowed-hosts: include-file://hosts}\n"

    assert plan(tmp_path, BASE, overlay)[0]["params"]["config"]["allowed-hosts"] == "a,b"

    missing = overlay.replace("//hosts", "//gone")
    assert "cannot include" in problems(tmp_path, BASE, missing)[0]


def test_published_ports_can_be_replaced_and_are_checked(tmp_path: pathlib.Path):
    publish = "applications:\n  mlflow:\n    annotations: {onebox/publish: 'PORTS'}\n"
    good = publish.replace("PORTS", "8080:5000")

    assert plan(tmp_path, BASE, good, publish={"mlflow": [(9, 5000)]})[0]["params"]["publish"] == [
        [9, 5000]
    ]
    for wrong in ("8080", "0:80", "1:65536", "a:b", "1:2:3", "\u0661:\u0662"):
        found = problems(tmp_path, BASE, publish.replace("PORTS", wrong))
        assert "does not name two ports" in found[0]


def existing(**changes: typing.Any) -> dict[str, typing.Any]:
    status = {
        "applications": {
            "mlflow": {"charm-name": "mlflow-server", "scale": 1, "exposed": False},
            "db": {"charm-name": "postgresql-k8s", "scale": 1, "exposed": False},
        },
        "relations": [{"provider": "db:database", "requirer": "mlflow:postgresql"}],
    }
    trusted = {"application-config": {"trust": {"value": True}}, "settings": {}}
    settings = {"mlflow": {"settings": {"workers": {"value": 2}}}, "db": trusted}
    return {"status": status, "settings": settings} | changes


def test_a_second_deploy_does_nothing(tmp_path: pathlib.Path):
    assert plan(tmp_path, BASE, **existing()) == []


def test_a_second_deploy_does_only_what_is_missing(tmp_path: pathlib.Path):
    change = "applications:\n  mlflow:\n    scale: 2\n    expose: true\n    options: {ratio: 2}\n"
    there = existing(settings={"mlflow": {"settings": {"workers": {"value": 9}}}})
    there["status"]["relations"] = []

    steps = plan(tmp_path, BASE, change, **there)

    assert steps == [
        {
            "method": "config_set",
            "params": {"application": "mlflow", "values": {"workers": "2", "ratio": "2.0"}},
        },
        {"method": "scale", "params": {"application": "mlflow", "scale": 2}},
        {"method": "expose", "params": {"application": "mlflow"}},
        {"method": "trust", "params": {"application": "db", "remove": False}},
        {"method": "integrate", "params": {"a": "mlflow:postgresql", "b": "db:database"}},
    ]


def test_another_charm_under_the_same_name_is_refused(tmp_path: pathlib.Path):
    there = existing()
    there["status"]["applications"]["db"]["charm-name"] = "mysql-k8s"

    (found,) = problems(tmp_path, BASE, **there)

    assert found.endswith('application "db" is there already, with the charm "mysql-k8s"')


def test_relations_are_made_once_and_within_their_limits(tmp_path: pathlib.Path):
    twice = BASE + "  - [db, mlflow]\n"
    assert "is defined more than once" in problems(tmp_path, twice)[0]

    second = "applications:\n  db2:\n    charm: ./database.charm\n    scale: 1\n"
    second += "    resources: {postgresql-image: x}\nrelations:\n  - [mlflow, db2]\n"
    assert problems(tmp_path, BASE, second)[0].endswith(
        "establishing a new relation for mlflow:postgresql would exceed its maximum relation"
        " limit of 1"
    )


# Relations of a model.


def world(**charms: model.Charm) -> model.Model:
    found = model.Model("m", "uuid")
    for name, charm in charms.items():
        found.applications[name] = model.Application(name, charm)
    return found


def test_endpoints_are_found_by_role_and_interface():
    found = bundles.resolve_endpoints(world(mlflow=SERVER, db=DATABASE), "db", "mlflow")

    assert [str(end) for end in found] == ["mlflow:postgresql", "db:database"]
    assert found[0].role == "requirer"


WRONG_INTERFACE = (
    "no relations found: mlflow:mysql is a requirer of mysql_client, "
    "db:database is a provider of postgresql_client"
)
AMBIGUOUS = (
    'ambiguous relation: "mlflow router" could refer to '
    '"mlflow:ingress router:more"; "mlflow:ingress router:upstreams"'
)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ("mlflow", "nobody", 'application "nobody" not found'),
        ("mlflow:none", "db", 'application "mlflow" has no "none" relation'),
        ("mlflow:", "db", 'application "mlflow" has no "" relation'),
        ("mlflow:peers", "db", "no relations found between mlflow:peers and db"),
        ("mlflow", "mlflow", "no relations found between mlflow and mlflow"),
        (
            "mlflow:mysql",
            "db:database",
            WRONG_INTERFACE,
        ),
        (
            "mlflow",
            "router",
            AMBIGUOUS,
        ),
    ],
)
def test_relations_that_cannot_be_are_refused_in_jujus_words(a: str, b: str, words: str):
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        bundles.resolve_endpoints(world(mlflow=SERVER, db=DATABASE, router=ROUTER), a, b)


def test_a_relation_is_not_made_twice_nor_beyond_a_limit():
    found = world(mlflow=SERVER, db=DATABASE, spare=DATABASE)
    ends = bundles.resolve_endpoints(found, "mlflow", "db")
    found.relations[0] = model.Relation(0, [*ends])

    with pytest.raises(ValueError, match="relation mlflow:postgresql db:database already exists"):
        bundles.resolve_endpoints(found, "db", "mlflow")
    with pytest.raises(ValueError, match=r"limit of 1 \(quota limit exceeded\)"):
        bundles.resolve_endpoints(found, "mlflow", "spare")


def test_a_dying_application_is_not_related():
    found = world(mlflow=SERVER, db=DATABASE)
    found.applications["db"].life = model.Life.DYING

    with pytest.raises(ValueError, match="application db is not alive"):
        bundles.resolve_endpoints(found, "mlflow", "db")


# Options.


@hypothesis.given(st.integers(-(2**63), 2**63 - 1))
def test_whole_numbers_survive_as_text(number: int):
    assert bundles.parse_option("n", model.Option("int"), str(number)) == number
    assert bundles.parse_option("n", model.Option("int"), number) == number


@hypothesis.given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_survive_as_text(number: float):
    assert bundles.parse_option("x", model.Option("float"), str(number)) == number


@hypothesis.given(st.text())
def test_text_is_itself(text: str):
    assert bundles.parse_option("s", model.Option("string"), text) == text


@hypothesis.given(st.text(), st.sampled_from(["int", "float", "boolean", "secret"]))
def test_any_text_is_taken_with_its_type_or_refused_by_name(text: str, kind: typing.Any):
    types = {"int": int, "float": float, "boolean": bool, "secret": str}
    refusal = ""
    value = None
    try:
        value = bundles.parse_option("o", model.Option(kind), text)
    except ValueError as error:
        refusal = str(error)

    assert type(value) is types[kind] or refusal == f'option "o" expected {kind}, got "{text}"'


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("int", "9223372036854775808", 'option "o" expected int, got "9223372036854775808"'),
        ("int", "1_000", 'option "o" expected int, got "1_000"'),
        ("int", "\u0663", 'option "o" expected int, got "\u0663"'),
        ("int", "", 'option "o" expected int, got ""'),
        ("int", 1.5, 'option "o" expected int, got 1.5'),
        ("int", True, 'option "o" expected int, got true'),
        ("float", "nan", 'option "o" expected float, got "nan"'),
        ("float", "1e999", 'option "o" expected float, got "1e999"'),
        ("boolean", "yes", 'option "o" expected boolean, got "yes"'),
        ("boolean", 1, 'option "o" expected boolean, got 1'),
        ("string", 8080, 'option "o" expected string, got 8080'),
        ("string", ["a"], "option \"o\" expected string, got ['a']"),
        ("secret", "hunter2", 'option "o" expected secret, got "hunter2"'),
    ],
)
def test_values_of_another_type_are_refused(kind: typing.Any, value: typing.Any, words: str):
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        bundles.parse_option("o", model.Option(kind), value)


NAMES = st.sampled_from(["alpha", "beta", "gamma"])
VALUES = st.one_of(st.integers(-5, 5), st.booleans(), st.text("ab", max_size=3))
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "charm": st.just("./router.charm"),
        "scale": st.integers(1, 3),
        "trust": st.booleans(),
        "options": st.dictionaries(NAMES, st.one_of(st.none(), VALUES), max_size=3),
        "resources": st.dictionaries(NAMES, st.text("ab", min_size=1), max_size=3),
    },
)
OVERLAYS = st.lists(st.dictionaries(NAMES, st.one_of(st.none(), FIELDS), min_size=1), max_size=3)


@hypothesis.given(st.dictionaries(NAMES, FIELDS, min_size=1), OVERLAYS)
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_merging_follows_jujus_rules(
    tmp_path: pathlib.Path,
    base: dict[str, typing.Any],
    overlays: list[dict[str, typing.Any]],
):
    """The rules of ReadAndMergeBundleData, said once more over plain dictionaries."""
    wanted: dict[str, dict[str, typing.Any]] = {}
    for number, layer in enumerate([base, *overlays]):
        for name, fields in layer.items():
            if fields is None:
                wanted.pop(name, None)
                continue
            known = wanted.setdefault(name, {})
            for field, value in fields.items():
                if field in {"options", "resources"} and value and number and field in known:
                    known[field] = {**known[field], **value}
                    known[field] = {k: v for k, v in known[field].items() if v is not None}
                else:
                    known[field] = value
    paths = [tmp_path / f"{number}.yaml" for number in range(1 + len(overlays))]
    for path, layer in zip(paths, [base, *overlays], strict=True):
        path.write_text(yaml.safe_dump({"applications": layer}))

    found = bundlefile.load(paths[0], paths[1:])

    assert found.applications.keys() == wanted.keys()
    for name, fields in wanted.items():
        spec = found.applications[name]
        assert spec.get("num_units") == fields.get("scale")
        assert spec.get("trust") == fields.get("trust")
        for field in ("options", "resources"):
            shown = {k: v for k, v in (spec.get(field) or {}).items() if v is not None}
            plain = {k: v for k, v in (fields.get(field) or {}).items() if v is not None}
            assert shown == plain
            assert not shown or shown.keys() <= spec[field].places.keys()


ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize(
    "overlays",
    [
        ["onebox/overlay.yaml"],
        ["onebox/overlay.yaml", "overlays/mariadb.yaml", "onebox/overlays/mariadb.yaml"],
    ],
    ids=len,
)
def test_the_bundle_needs_nothing_from_charmhub_on_one_machine(overlays: list[str]):
    bundle = bundlefile.load(ROOT / "bundle.yaml", [ROOT / overlay for overlay in overlays])

    assert bundle.problems == []
    for name, spec in bundle.applications.items():
        assert spec["charm"].startswith(str(ROOT / "build")), name
        assert all(image.startswith("localhost/onebox/") for image in spec["resources"].values())


@pytest.mark.parametrize(
    "overlay", sorted((ROOT / "overlays").glob("*.yaml")), ids=lambda p: p.name
)
def test_every_overlay_lies_over_the_bundle(overlay: pathlib.Path):
    bundle = bundlefile.load(ROOT / "bundle.yaml", [overlay])

    assert bundle.problems == []
    for pair, _place in bundle.relations:
        assert {side.partition(":")[0] for side in pair} <= bundle.applications.keys()
