"""Every method and option of jubilant as its users write it, or refused by name.

A new version of jubilant that brings one more fails here until it is used or refused below.
"""

from __future__ import annotations

import ast
import inspect
import json
import pathlib
import shutil
import types
import zipfile
from collections.abc import Callable, Iterator

import jubilant
import pytest

from onebox import model, stack
from tests.functional import box as boxes

IMAGES = {"work-image": boxes.IMAGE}


@pytest.fixture(scope="module")
def charm(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return boxes.zipped("probe", tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pathlib.Path]:
    """The juju of a onebox with an empty model, m."""
    with boxes.new() as box:
        path = tmp_path_factory.mktemp("bin") / "juju"
        path.write_text(f'#!/bin/sh\nONEBOX_HOME={box.home.path} exec {stack.JUJU} "$@"\n')
        path.chmod(0o755)
        yield path


@pytest.fixture(scope="module")
def juju(binary: pathlib.Path, charm: pathlib.Path) -> jubilant.Juju:
    """A model with ``a``, which gives to ``b``."""
    juju = jubilant.Juju(model="m", cli_binary=binary, wait_timeout=120)
    juju.deploy(charm, "a", resources=IMAGES)
    juju.deploy(charm, "b", resources=IMAGES)
    juju.integrate("a:giver", "b:taker")
    juju.wait(jubilant.all_active, error=jubilant.any_error)
    settled(juju)
    return juju


def settled(juju: jubilant.Juju) -> jubilant.Status:
    """Wait until all is active and at rest."""
    return juju.wait(
        lambda status: jubilant.all_active(status) and jubilant.all_agents_idle(status),
        delay=0.2,
        successes=2,
    )


class TestModels:
    def test_the_version_is_told(self, juju: jubilant.Juju) -> None:
        found = juju.version()
        assert f"{found.major}.{found.minor}.{found.patch}" == model.JUJU_VERSION

    def test_one_is_added_configured_shown_and_destroyed(self, binary: pathlib.Path) -> None:
        juju = jubilant.Juju(cli_binary=binary)
        juju.add_model("other", "onebox", config={"update-status-hook-interval": "10s"})
        assert juju.show_model().short_name == juju.model == "other"
        juju.model_config({"automatically-retry-hooks": False}, reset="nothing")
        assert juju.model_config() == {
            "update-status-hook-interval": "10s",
            "automatically-retry-hooks": "false",
        }
        juju.destroy_model("other", destroy_storage=True, force=True, no_wait=True, timeout=60)
        assert juju.model is None
        assert "other" not in juju.cli("models", include_model=False)

    def test_a_temporary_one_goes_unless_it_is_to_be_kept(
        self, binary: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(binary.parent), prepend=":")
        with jubilant.temp_model(config={"automatically-retry-hooks": False}) as juju:
            gone = str(juju.model)
            assert juju.model_config()["automatically-retry-hooks"] == "false"
        with jubilant.temp_model(keep=True) as juju:
            kept = str(juju.model)
        listed = juju.cli("models", include_model=False)
        assert (gone in listed, kept in listed) == (False, True)
        juju.destroy_model(kept)


class TestConditions:
    @pytest.mark.parametrize(
        ("word", "every", "some"),
        [
            ("active", jubilant.all_active, jubilant.any_active),
            ("blocked", jubilant.all_blocked, jubilant.any_blocked),
            ("maintenance", jubilant.all_maintenance, jubilant.any_maintenance),
            ("waiting", jubilant.all_waiting, jubilant.any_waiting),
        ],
    )
    def test_a_unit_that_says_so_is_seen(
        self,
        juju: jubilant.Juju,
        word: str,
        every: Callable[..., bool],
        some: Callable[..., bool],
    ) -> None:
        try:
            juju.exec("status-set", word, "on request", unit="b/0")
            status = juju.wait(lambda status: every(status, "b"), delay=0.1, timeout=10)
            assert some(status)
            assert every(status) is some(status, "a") is (word == "active")
            assert status.apps["b"].units["b/0"].workload_status.message == "on request"
        finally:
            juju.exec("status-set", "active", unit="b/0")

    def test_a_failed_hook_is_an_error_that_wait_can_stop_at(self, juju: jubilant.Juju) -> None:
        juju.config("b", {"misbehave": "config-changed:raise"})
        with pytest.raises(jubilant.WaitError, match="any_error"):
            juju.wait(jubilant.all_blocked, error=jubilant.any_error, delay=0.1)
        assert jubilant.all_error(juju.status(), "b")
        juju.config("b", reset="misbehave")
        settled(juju)

    def test_what_does_not_come_is_no_longer_waited_for(self, juju: jubilant.Juju) -> None:
        with pytest.raises(TimeoutError, match="timed out after"):
            juju.wait(jubilant.all_blocked, delay=0.1, timeout=0.5)


class TestUnits:
    def test_an_action_answers_or_fails(self, juju: jubilant.Juju) -> None:
        task = juju.run("b/leader", "answer", {"text": "hello"}, wait=30)
        assert task.results == {"text": "hello", "nested": {"leader": "yes"}}
        assert "working on it" in task.log[0]
        with pytest.raises(jubilant.TaskError) as caught:
            juju.run("b/0", "answer", {"text": "hello", "fail": True})
        assert caught.value.task.message == "told to fail"
        with pytest.raises(TimeoutError):
            juju.run("b/0", "answer", {"text": "x", "wait": 1000}, wait=1)
        following = str(int(caught.value.task.id) + 1)
        assert "status: aborted" in juju.cli("cancel-task", following)
        with pytest.raises(ValueError, match="not found"):
            juju.run("b/0", "none")

    def test_a_command_runs_with_hook_tools(self, juju: jubilant.Juju) -> None:
        assert juju.exec("is-leader --format json", unit="b/leader", wait=30).stdout == "true\n"
        with pytest.raises(jubilant.TaskError) as caught:
            juju.exec("exit 3", unit="b/0")
        assert caught.value.task.return_code == 3

    def test_a_container_is_entered_and_files_are_copied(
        self, juju: jubilant.Juju, tmp_path: pathlib.Path
    ) -> None:
        (tmp_path / "there").write_bytes(b"\x00\xff")
        juju.scp(tmp_path / "there", "b/0:/root/it", container="work", host_key_checks=False)
        words = ("stat", "-c", "%s", "/root/it")
        found = juju.ssh("b/0", *words, container="work", host_key_checks=False, user="root")
        assert found == "2\n"
        juju.scp("b/0:/root/it", tmp_path / "back", container="work")
        assert (tmp_path / "back").read_bytes() == b"\x00\xff"

    def test_one_is_shown_with_its_relations(self, juju: jubilant.Juju) -> None:
        shown = juju.show_unit("b/0")
        assert shown.leader
        related = {info.endpoint: info for info in shown.relation_info}
        assert list(related["taker"].related_units) == ["a/0"]

    def test_the_log_has_what_a_charm_said(self, juju: jubilant.Juju) -> None:
        juju.exec("juju-log", "a word to find", unit="b/0")
        assert "a word to find" in juju.debug_log(limit=50)
        assert len(juju.debug_log(limit=2).splitlines()) == 2


class TestSecrets:
    def test_one_is_added_granted_changed_and_removed(self, juju: jubilant.Juju) -> None:
        uri = juju.add_secret("mine", {"key": "one"}, info="for b")
        juju.config("b", {"key": uri})
        juju.grant_secret("mine", ["b"])
        assert juju.config("b")["key"] == uri
        assert "one" in juju.exec("secret-get", uri, unit="b/0").stdout
        juju.update_secret(uri, {"key": "two"}, info="still for b", name="ours", auto_prune=False)
        assert [found.name for found in juju.secrets(owner="m")] == ["ours"]
        assert juju.show_secret("ours").description == "still for b"
        assert juju.show_secret(uri, reveal=True).content == {"key": "two"}
        assert juju.show_secret(uri, reveal=True, revision=1).content == {"key": "one"}
        assert len(juju.show_secret(uri, revisions=True).revisions or []) == 2
        juju.remove_secret("ours", revision=1)
        juju.update_secret(uri, {"key": "three"}, auto_prune=True)
        juju.remove_secret(uri)
        assert juju.secrets() == []
        juju.config("b", reset=["key"])

    def test_content_may_come_from_standard_input(self, juju: jubilant.Juju) -> None:
        uri = juju.cli("add-secret", "piped", "--file", "-", stdin="key: value").strip()
        assert juju.show_secret(uri, reveal=True).content == {"key": "value"}
        juju.remove_secret("piped")


class TestApplications:
    """In the order in which an application lives."""

    def test_one_is_deployed_with_what_was_asked_for(
        self, juju: jubilant.Juju, charm: pathlib.Path
    ) -> None:
        juju.deploy(
            charm,
            "c",
            base="ubuntu@24.04",
            channel="latest/edge",
            config={"number": 3},
            force=True,
            num_units=2,
            resources=IMAGES,
            storage={"data": "2G"},
            trust=True,
        )
        status = settled(juju)
        assert list(status.apps["c"].units) == ["c/0", "c/1"]
        assert status.apps["c"].charm_channel == "latest/edge"
        assert juju.config("c") == {"misbehave": "", "number": 3}
        assert juju.config("c", app_config=True)["trust"] is True

    def test_options_and_trust_change(self, juju: jubilant.Juju) -> None:
        juju.config("c", {"number": 4})
        juju.trust("c", remove=True, scope="cluster")
        assert juju.config("c")["number"] == 4
        assert juju.config("c", app_config=True)["trust"] is False
        juju.config("c", reset=["number"])
        assert juju.config("c")["number"] == 1

    def test_units_come_and_go(self, juju: jubilant.Juju) -> None:
        juju.add_unit("c", num_units=1)
        juju.wait(lambda status: len(status.apps["c"].units) == 3, delay=0.2, successes=1)
        juju.remove_unit("c", num_units=2, force=True)
        juju.wait(lambda status: list(status.apps["c"].units) == ["c/0"], delay=0.2)

    def test_a_refresh_brings_charm_options_and_trust(
        self, juju: jubilant.Juju, charm: pathlib.Path, tmp_path: pathlib.Path
    ) -> None:
        newer = shutil.copy(charm, tmp_path / "newer.charm")
        with zipfile.ZipFile(newer, "a") as archive:
            archive.writestr("newer", "")
        juju.refresh(
            "c", path=newer, resources=IMAGES, config={"number": 5}, force=True, trust=True
        )
        juju.wait(lambda status: status.apps["c"].charm_rev == 1, delay=0.2)
        settled(juju)
        assert juju.config("c")["number"] == 5
        assert juju.config("c", app_config=True)["trust"] is True

    def test_a_relation_goes_and_comes_back(self, juju: jubilant.Juju) -> None:
        juju.remove_relation("a:giver", "b:taker", force=True)
        juju.wait(lambda status: "taker" not in status.apps["b"].relations, delay=0.2)
        settled(juju)
        juju.integrate("a:giver", "b:taker")
        assert settled(juju).apps["b"].relations["taker"][0].related_app == "a"

    def test_several_are_removed_with_their_storage(self, juju: jubilant.Juju) -> None:
        juju.remove_application("a", "c", destroy_storage=True, force=True)
        juju.wait(lambda status: list(status.apps) == ["b"], delay=0.2)
        kept = json.loads(juju.cli("storage", "--format", "json"))["storage"]
        assert len(kept) == 1

    def test_a_bundle_is_deployed_with_its_overlay(
        self, juju: jubilant.Juju, charm: pathlib.Path, tmp_path: pathlib.Path
    ) -> None:
        app = {"charm": str(charm), "scale": 1, "trust": True, "resources": IMAGES}
        (tmp_path / "bundle.yaml").write_text(
            json.dumps({"bundle": "kubernetes", "applications": {"d": app}})
        )
        (tmp_path / "overlay.yaml").write_text(
            json.dumps({"applications": {"d": {"options": {"number": 7}}}})
        )
        juju.deploy(tmp_path / "bundle.yaml", overlays=[tmp_path / "overlay.yaml"], trust=True)
        assert "d" in settled(juju).apps
        assert juju.config("d")["number"] == 7


COMMANDS: list[tuple[str, str, Callable[[jubilant.Juju], object]]] = [
    ("add-cloud", "one cloud", lambda juju: juju.add_cloud("x", {}, client=True)),
    ("update-cloud", "one cloud", lambda juju: juju.update_cloud("x", {}, client=True)),
    ("add-credential", "one cloud", lambda juju: juju.add_credential("x", {}, client=True)),
    ("add-machine", "one machine", lambda juju: juju.add_machine()),
    ("add-ssh-key", "without a key", lambda juju: juju.add_ssh_key("ssh-rsa x")),
    ("remove-ssh-key", "without a key", lambda juju: juju.remove_ssh_key("x")),
    ("bootstrap", "`make up`", lambda juju: juju.bootstrap("x", "y")),
    ("model-constraints", "no limits", lambda juju: juju.model_constraints()),
    ("set-model-constraints", "no limits", lambda juju: juju.model_constraints({"mem": "1G"})),
    ("offer", "between models", lambda juju: juju.offer("b", endpoint="giver")),
    ("consume", "between models", lambda juju: juju.consume("other.b")),
]
"""Juju's commands that onebox does not have, and a word of what it says instead."""

OPTIONS: list[tuple[str, str, Callable[[jubilant.Juju], object]]] = [
    ("--controller", "one controller", lambda juju: juju.add_model("x", controller="y")),
    ("--credential", "one cloud", lambda juju: juju.add_model("x", credential="y")),
    ("cloud: invalid choice: 'k8s'", "onebox", lambda juju: juju.add_model("x", "k8s")),
    ("--attach-storage", "comes back", lambda juju: juju.add_unit("b", attach_storage="data/0")),
    ("--to", "one machine", lambda juju: juju.add_unit("b", to="1")),
    ("--attach-storage", "comes back", lambda juju: juju.deploy("./x", attach_storage="data/0")),
    ("--bind", "no network spaces", lambda juju: juju.deploy("./x", bind="alpha")),
    ("--constraints", "no limits", lambda juju: juju.deploy("./x", constraints={"mem": "1G"})),
    ("--revision", "give a path", lambda juju: juju.deploy("./x", revision=1)),
    ("--to", "one machine", lambda juju: juju.deploy("./x", to="1")),
    ("--release-storage", "destroy", lambda juju: juju.destroy_model("m", release_storage=True)),
    ("--machine", "your own shell", lambda juju: juju.exec("ls", machine=0)),
    ("--via", "between models", lambda juju: juju.integrate("a", "b", via="192.0.2.0/24")),
    ("--base", "image", lambda juju: juju.refresh("b", base="ubuntu@24.04")),
    ("--channel", "--path", lambda juju: juju.refresh("b", channel="latest/edge")),
    ("--revision", "give a path", lambda juju: juju.refresh("b", revision=1)),
    ("--storage", "juju deploy", lambda juju: juju.refresh("b", storage={"data": "1G"})),
    (
        "--destroy-storage",
        "remove-application",
        lambda juju: juju.remove_unit("b", num_units=1, destroy_storage=True),
    ),
    ("-r", "one file", lambda juju: juju.scp("/x", "b/0:/x", scp_options=["-r"])),
    ("-v", "without SSH", lambda juju: juju.ssh("b/0", "ls", ssh_options=["-v"])),
]
"""Juju's options that onebox does not have, likewise."""


@pytest.mark.parametrize(
    ("name", "instead", "call"),
    [pytest.param(*item, id=f"{item[0]}-{n}") for n, item in enumerate([*COMMANDS, *OPTIONS])],
)
def test_what_onebox_does_not_have_is_refused_by_name(
    juju: jubilant.Juju, name: str, instead: str, call: Callable[[jubilant.Juju], object]
) -> None:
    before = juju.status()
    with pytest.raises(jubilant.CLIError) as caught:
        call(juju)
    said = caught.value.stderr.partition("see `")[0]
    assert name in said
    assert instead in said.replace(name, "", 1)
    assert juju.status().apps == before.apps


def test_every_method_and_option_of_jubilant_is_used_here() -> None:
    used: set[str] = set()
    for node in ast.walk(ast.parse(pathlib.Path(__file__).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            used.add(ast.unparse(node))
        if isinstance(node, ast.Call):
            used |= {f"{ast.unparse(node.func)}({keyword.arg})" for keyword in node.keywords}
    functions = {
        f"jubilant.{name}"
        for name in jubilant.__all__
        if isinstance(getattr(jubilant, name), types.FunctionType)
    }
    methods = {
        name: found
        for name, found in vars(jubilant.Juju).items()
        if inspect.isfunction(found) and not name.startswith("_")
    }
    # Options of a command that is refused as a whole are refused with it.
    refused = {name.replace("-", "_") for name, _, _ in COMMANDS}
    options = {
        f"juju.{name}({option.name})"
        for name, found in methods.items()
        if name not in refused
        for option in inspect.signature(found).parameters.values()
        if option.kind is option.KEYWORD_ONLY
    }
    assert len(methods) >= 39
    assert (functions | {f"juju.{name}" for name in methods} | options) - used == set()
