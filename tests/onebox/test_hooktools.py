"""Hook tools: what a charm may read and write, how it is refused, and when it counts."""

from __future__ import annotations

import datetime
import json
import typing

import hypothesis
import pytest
from hypothesis import strategies as st

from onebox import hooktools, model

NOW = datetime.datetime(2026, 11, 21, 12, tzinfo=datetime.UTC)


class Stage:
    """Applications ``a`` (two units, ``a/0`` leads) and ``b`` (one), related twice over."""

    def __init__(self) -> None:
        self.world = model.Model("m", "model-uuid")
        self.logged: list[tuple[str, str]] = []
        endpoints = {
            "db": model.EndpointSpec("db", "probe", "provider"),
            "replicas": model.EndpointSpec("replicas", "peers", "peer"),
        }
        options = {
            "text": model.Option("string", "default"),
            "unset": model.Option("string"),
            "number": model.Option("int", 0),
        }
        charm = model.Charm(
            "probe", "d", "p", endpoints=endpoints, options=options, resources={"image": "x"}
        )
        for name, units in (("a", 2), ("b", 1)):
            app = model.Application(name, charm, leader=f"{name}/0", config={"number": 3})
            app.units = {f"{name}/{n}": model.Unit(f"{name}/{n}") for n in range(units)}
            self.world.applications[name] = app
        self.relate(7, [("a", "db", "provider"), ("b", "db", "requirer")])
        self.relate(8, [("a", "replicas", "peer")])

    def relate(self, number: int, sides: list[tuple[str, str, typing.Any]]) -> None:
        ends = [model.Endpoint(app, name, "probe", role) for app, name, role in sides]
        relation = model.Relation(number, ends)
        self.world.relations[number] = relation
        for unit in self.world.units():
            if any(unit.application == end.application for end in ends):
                relation.scope.append(unit.name)
                unit.relations[number] = model.RelationView(created=True)
                relation.bag(unit.name)
        for unit in self.world.units():
            view = unit.relations.get(number)
            remote = relation.remote(unit.application).application
            if view is not None:
                view.members = {
                    name: 0
                    for name in relation.scope
                    if name != unit.name and name.startswith(f"{remote}/")
                }

    def hook(self, unit: str, hook: model.Hook | None = None) -> hooktools.Context:
        return hooktools.Context(
            self.world,
            self.world.unit(unit),
            hook,
            lambda level, text: self.logged.append((level, text)),
            clock=lambda: NOW,
            resource=lambda name: f"/resources/{name}.yaml",
        )


@pytest.fixture
def stage() -> Stage:
    return Stage()


def get(context: hooktools.Context, tool: str, *args: str, stdin: str = "") -> typing.Any:
    """Run a tool as ops does, and decode its answer."""
    return json.loads(context.run(tool, ["--format=json", *args], stdin))


def refused(context: hooktools.Context, tool: str, *args: str, stdin: str = "") -> str:
    with pytest.raises(hooktools.ToolError) as caught:
        context.run(tool, args, stdin)
    return str(caught.value)


def test_options_without_a_value_are_not_there(stage: Stage) -> None:
    assert get(stage.hook("a/0"), "config-get") == {"text": "default", "number": 3}
    assert get(stage.hook("a/0"), "config-get", "unset") is None


def test_leadership_is_settled_for_the_length_of_a_hook(stage: Stage) -> None:
    context = stage.hook("a/0")
    stage.world.applications["a"].leader = "a/1"
    assert get(context, "is-leader") is True
    assert get(stage.hook("a/1"), "is-leader") is True


class TestDatabags:
    def test_writes_count_only_when_the_hook_succeeds(self, stage: Stage) -> None:
        context = stage.hook("a/0")
        context.run("relation-set", ["-r", "db:7", "--app", "--file", "-"], '{"key": "value"}')
        assert get(context, "relation-get", "-r", "db:7", "--app", "-", "a") == {"key": "value"}
        assert get(stage.hook("b/0"), "relation-get", "-r", "db:7", "--app", "-", "a") == {}
        context.commit()
        answer = get(stage.hook("b/0"), "relation-get", "-r", "db:7", "--app", "-", "a")
        assert answer == {"key": "value"}

    def test_an_empty_value_deletes_and_an_equal_one_wakes_nobody(self, stage: Stage) -> None:
        for text in ('{"x": "1", "y": "2"}', '{"x": "1", "y": ""}', '{"x": "1"}'):
            context = stage.hook("a/0")
            context.run("relation-set", ["-r", "db:7", "--file", "-"], text)
            context.commit()
        bag = stage.world.relations[7].bags["a/0"]
        assert (bag.data, bag.version) == ({"x": "1"}, 2)

    def test_a_unit_that_does_not_lead_cannot_write_for_the_application(
        self, stage: Stage
    ) -> None:
        text = refused(stage.hook("a/1"), "relation-set", "-r", "db:7", "--app", "key=value")
        assert text == "ERROR cannot write relation settings"

    def test_a_unit_that_does_not_lead_reads_its_own_bag_in_peer_relations_only(
        self, stage: Stage
    ) -> None:
        follower = stage.hook("a/1")
        assert get(follower, "relation-get", "-r", "replicas:8", "--app", "-", "a") == {}
        text = refused(follower, "relation-get", "-r", "db:7", "--app", "-", "a")
        assert text == "ERROR permission denied"

    def test_a_stranger_s_bag_is_closed(self, stage: Stage) -> None:
        assert "permission denied" in refused(
            stage.hook("b/0"), "relation-get", "-r", "db:7", "-", "c/0"
        )

    def test_a_relation_that_broke_is_closed(self, stage: Stage) -> None:
        stage.world.unit("a/0").relations[7].broken = True
        context = stage.hook("a/0")
        assert get(context, "relation-ids", "db") == []
        for tool, *args in (
            ["relation-get", "-", "b/0"],
            ["relation-list"],
            ["relation-set", "key=value"],
            ["relation-set", "--app", "key=value"],
        ):
            assert "relation not found" in refused(context, tool, "-r", "db:7", *args)

    def test_values_are_strings(self, stage: Stage) -> None:
        text = refused(
            stage.hook("a/0"), "relation-set", "-r", "db:7", "--file", "-", stdin='{"key": 1}'
        )
        assert "is not a string" in text

    @pytest.mark.parametrize("number", ["db:9", "replicas:7", "db:8", "db:x", "db:\u00b2"])
    def test_a_relation_that_is_not_there_is_named(self, stage: Stage, number: str) -> None:
        with pytest.raises(hooktools.ToolError, match="relation not found") as caught:
            stage.hook("a/0").run("relation-list", ["-r", number], "")
        assert caught.value.code == 2

    def test_the_unit_that_departs_is_no_member_but_can_be_read(self, stage: Stage) -> None:
        stage.world.relations[7].bag("b/0").data["key"] = "left behind"
        hook = model.Hook(
            "db-relation-departed", relation=7, endpoint="db",
            remote_application="b", remote_unit="b/0", departing="b/0",
        )  # fmt: skip
        context = stage.hook("a/0", hook)
        assert get(context, "relation-list", "-r", "db:7") == []
        answer = get(context, "relation-get", "-r", "db:7", "-", "b/0")
        assert answer == {"key": "left behind"}


class TestSecrets:
    def add(self, stage: Stage, unit: str = "a/0", owner: str = "application") -> str:
        context = stage.hook(unit)
        uri = context.run("secret-add", ["--label", "mine", "--owner", owner, "key=one"], "")
        context.commit()
        return uri

    def grant(self, stage: Stage, uri: str) -> None:
        context = stage.hook("a/0")
        context.run("secret-grant", ["--relation", "7", uri], "")
        context.commit()

    def test_without_a_grant_it_cannot_be_read(self, stage: Stage) -> None:
        uri = self.add(stage)
        assert refused(stage.hook("b/0"), "secret-get", uri) == "ERROR permission denied"
        self.grant(stage, uri)
        assert get(stage.hook("b/0"), "secret-get", uri) == {"key": "one"}

    def test_a_revoked_grant_closes_it_again(self, stage: Stage) -> None:
        uri = self.add(stage)
        self.grant(stage, uri)
        context = stage.hook("a/0")
        context.run("secret-revoke", ["--relation", "7", "--app", "b", uri], "")
        context.commit()
        assert refused(stage.hook("b/0"), "secret-get", uri) == "ERROR permission denied"

    def test_one_that_is_not_there_is_not_found(self, stage: Stage) -> None:
        assert "not found" in refused(stage.hook("b/0"), "secret-get", "secret:nothing")
        assert "not found" in refused(stage.hook("b/0"), "secret-get", "--label", "nothing")

    @pytest.mark.parametrize("spelling", ["{}", "secret:{}", "secret://model-uuid/{}"])
    def test_an_id_has_three_spellings(self, stage: Stage, spelling: str) -> None:
        bare = self.add(stage).removeprefix("secret:")
        assert get(stage.hook("a/1"), "secret-get", spelling.format(bare)) == {"key": "one"}

    def test_a_consumer_keeps_its_revision_until_it_refreshes(self, stage: Stage) -> None:
        uri = self.add(stage)
        self.grant(stage, uri)
        reader = stage.hook("b/0")
        assert get(reader, "secret-get", uri, "--label", "theirs") == {"key": "one"}
        context = stage.hook("a/0")
        context.run("secret-set", [uri, "--owner", "application", "key=two"], "")
        context.commit()
        assert get(reader, "secret-get", "--label", "theirs") == {"key": "one"}
        assert get(reader, "secret-get", uri, "--peek") == {"key": "two"}
        assert get(reader, "secret-get", uri) == {"key": "one"}
        assert get(reader, "secret-get", uri, "--refresh") == {"key": "two"}
        assert get(reader, "secret-get", uri) == {"key": "two"}

    def test_equal_content_makes_no_revision(self, stage: Stage) -> None:
        uri = self.add(stage)
        context = stage.hook("a/0")
        context.run("secret-set", [uri, "key=one"], "")
        context.commit()
        assert get(stage.hook("a/0"), "secret-info-get", uri)[hooktools.bare_id(uri)][
            "revision"
        ] == 1  # fmt: skip

    def test_a_revision_set_in_this_hook_is_seen_by_peek_only(self, stage: Stage) -> None:
        uri = self.add(stage)
        context = stage.hook("a/0")
        get(context, "secret-get", uri)
        context.run("secret-set", [uri, "key=two"], "")
        assert get(context, "secret-get", uri) == {"key": "one"}
        assert get(context, "secret-get", uri, "--peek") == {"key": "two"}

    def test_what_a_failed_hook_made_is_gone(self, stage: Stage) -> None:
        context = stage.hook("a/0")
        uri = context.run("secret-add", ["key=one"], "")
        assert get(context, "secret-get", uri) == {"key": "one"}
        assert stage.world.secrets == {}

    def test_what_a_failed_hook_changed_is_as_before(self, stage: Stage) -> None:
        uri = self.add(stage)
        self.grant(stage, uri)
        for tool, *args in (
            ["secret-set", uri, "key=two"],
            ["secret-revoke", "--app", "b", uri],
            ["secret-remove", uri],
        ):
            stage.hook("a/0").run(tool, args, "")
        assert get(stage.hook("b/0"), "secret-get", uri, "--refresh") == {"key": "one"}

    @pytest.mark.parametrize("owner", ["a", ""])
    @pytest.mark.parametrize(
        ("tool", "args"),
        [
            ("secret-set", ["key=two"]),
            ("secret-grant", ["--relation", "7"]),
            ("secret-revoke", ["--app", "b"]),
            ("secret-remove", []),
            ("secret-info-get", []),
        ],
    )
    def test_who_may_read_may_not_manage(
        self, stage: Stage, owner: str, tool: str, args: list[str]
    ) -> None:
        uri = self.add(stage)
        self.grant(stage, uri)
        # Without an owner it is the user's.
        stage.world.secrets[hooktools.bare_id(uri)].owner = owner
        assert refused(stage.hook("b/0"), tool, uri, *args) == "ERROR permission denied"

    @pytest.mark.parametrize(
        "tool", ["secret-get", "secret-set", "secret-info-get", "secret-revoke", "secret-remove"]
    )
    def test_it_has_to_be_named(self, stage: Stage, tool: str) -> None:
        # One without a label must not be what an empty label means.
        context = stage.hook("a/0")
        context.run("secret-add", ["key=one"], "")
        context.commit()
        assert refused(stage.hook("a/0"), tool) == "ERROR missing secret URI"

    def test_a_key_or_revision_that_is_not_there_is_named(self, stage: Stage) -> None:
        uri = self.add(stage)
        text = refused(stage.hook("a/0"), "secret-get", uri, "other")
        assert text == 'ERROR secret key value "other" not found'
        text = refused(stage.hook("a/0"), "secret-remove", uri, "--revision", "x")
        assert 'invalid value "x" for option --revision' in text

    @pytest.mark.parametrize("option", ["--rotate", "--expire"])
    def test_a_time_that_is_none_is_refused(self, stage: Stage, option: str) -> None:
        uri = self.add(stage)
        text = refused(stage.hook("a/0"), "secret-set", uri, option, "sometimes")
        assert '"sometimes" not valid' in text

    def test_only_the_leader_manages_the_application_s(self, stage: Stage) -> None:
        uri = self.add(stage)
        follower = stage.hook("a/1")
        assert refused(follower, "secret-add", "key=one") == "ERROR this unit is not the leader"
        assert refused(follower, "secret-info-get", uri) == "ERROR permission denied"
        assert refused(follower, "secret-set", uri, "key=two") == "ERROR permission denied"
        assert get(follower, "secret-get", "--label", "mine") == {"key": "one"}

    def test_a_label_is_given_once(self, stage: Stage) -> None:
        self.add(stage)
        text = refused(stage.hook("a/0"), "secret-add", "--label", "mine", "key=one")
        assert "already exists" in text

    @pytest.mark.parametrize("key", ["Key", "ab", "9key", "key_", "k-", ""])
    def test_keys_follow_juju_s_rule(self, stage: Stage, key: str) -> None:
        assert "ERROR" in refused(stage.hook("a/0"), "secret-add", f"{key}=value")

    def test_content_has_at_most_one_mebibyte(self, stage: Stage) -> None:
        text = refused(stage.hook("a/0"), "secret-add", f"key={'x' * (1024 * 1024 + 1)}")
        assert "too large" in text

    def test_one_that_was_removed_cannot_be_read(self, stage: Stage) -> None:
        uri = self.add(stage)
        self.grant(stage, uri)
        get(stage.hook("b/0"), "secret-get", uri)
        context = stage.hook("a/0")
        context.run("secret-remove", [uri], "")
        context.commit()
        assert "not found" in refused(stage.hook("b/0"), "secret-get", uri)

    def test_a_revision_that_was_removed_is_lost_to_who_still_tracks_it(
        self, stage: Stage
    ) -> None:
        uri = self.add(stage)
        self.grant(stage, uri)
        get(stage.hook("b/0"), "secret-get", uri)
        context = stage.hook("a/0")
        context.run("secret-set", [uri, "key=two"], "")
        context.run("secret-remove", [uri, "--revision", "1"], "")
        context.commit()
        assert "not found" in refused(stage.hook("b/0"), "secret-get", uri)
        assert get(stage.hook("b/0"), "secret-get", uri, "--refresh") == {"key": "two"}

    def test_who_reads_meanwhile_is_not_forgotten(self, stage: Stage) -> None:
        uri = self.add(stage)
        self.grant(stage, uri)
        context = stage.hook("a/0")
        context.run("secret-set", [uri, "key=two"], "")
        get(stage.hook("b/0"), "secret-get", uri)
        context.commit()
        found = stage.world.secrets[hooktools.bare_id(uri)]
        assert found.consumers["b/0"].tracked == 1


class TestActions:
    def test_results_nest_at_dots(self, stage: Stage) -> None:
        stage.world.operations[1] = model.Operation(
            1, "a/0", "act", "uuid", params={"x": {"y": 2}}
        )
        context = stage.hook("a/0", model.Hook("act", operation=1))
        assert get(context, "action-get", "x.y") == 2
        context.run("action-set", ["one.two=3", "four=5"], "")
        context.run("action-fail", ["--", "no luck"], "")
        assert context.results == {"one": {"two": "3"}, "four": "5"}
        assert context.failure == "no luck"
        context.run("action-set", ["four.six=7"], "")
        assert context.results["four"] == {"six": "7"}

    @pytest.mark.parametrize("tool", ["action-get", "action-set", "action-fail", "action-log"])
    def test_outside_an_action_they_refuse(self, stage: Stage, tool: str) -> None:
        assert refused(stage.hook("a/0"), tool, "a=b") == "ERROR not running an action"


def test_what_a_hook_has_read_stays_the_same_until_it_ends(stage: Stage) -> None:
    context = stage.hook("a/0")
    assert get(context, "relation-get", "-r", "db:7", "--app", "-", "b") == {}
    assert get(context, "config-get", "number") == 3
    stage.world.relations[7].bag("b").data["key"] = "news"
    stage.world.applications["a"].config["number"] = 4
    assert get(context, "relation-get", "-r", "db:7", "--app", "-", "b") == {}
    assert get(context, "config-get", "number") == 3
    later = stage.hook("a/0")
    assert get(later, "relation-get", "-r", "db:7", "--app", "-", "b") == {"key": "news"}
    assert get(later, "config-get", "number") == 4


def test_charm_state_counts_only_when_the_hook_succeeds(stage: Stage) -> None:
    context = stage.hook("a/0")
    context.run("state-set", ["--file", "-"], '{"one": "1"}')
    context.run("state-set", ["two=2"], "")
    context.run("state-delete", ["one"], "")
    assert get(context, "state-get") == {"two": "2"}
    assert get(stage.hook("a/0"), "state-get") == {}
    context.commit()
    assert get(stage.hook("a/0"), "state-get", "two") == "2"


def test_goal_state_names_units_and_relations_to_come(stage: Stage) -> None:
    found = get(stage.hook("a/0"), "goal-state")
    assert set(found["units"]) == {"a/0", "a/1"}
    assert set(found["relations"]["db"]) == {"b", "b/0"}


def test_network_get_answers_for_endpoints_and_juju_info(stage: Stage) -> None:
    stage.world.unit("a/0").address = "10.1.2.3"
    for binding in ("db", "juju-info"):
        found = get(stage.hook("a/0"), "network-get", binding)
        assert found["ingress-addresses"] == ["10.1.2.3"]
        assert found["bind-addresses"][0]["addresses"][0]["value"] == "10.1.2.3"
    assert "no network config" in refused(stage.hook("a/0"), "network-get", "nothing")


def test_resource_get_answers_the_path_of_an_image_s_file(stage: Stage) -> None:
    assert stage.hook("a/0").run("resource-get", ["image"], "") == "/resources/image.yaml"
    assert "not found" in refused(stage.hook("a/0"), "resource-get", "nothing")


def test_ports_count_only_when_the_hook_succeeds(stage: Stage) -> None:
    context = stage.hook("a/0")
    context.run("open-port", ["5000"], "")
    context.run("open-port", ["6000-6010/udp"], "")
    assert get(context, "opened-ports") == ["5000/tcp", "6000-6010/udp"]
    assert stage.world.unit("a/0").ports == []
    context.commit()
    assert stage.world.unit("a/0").ports == ["5000/tcp", "6000-6010/udp"]


def test_status_counts_at_once_and_only_the_leader_sets_the_application_s(stage: Stage) -> None:
    stage.hook("a/1").run("status-set", ["--application=False", "blocked", "--", "why"], "")
    assert stage.world.unit("a/1").status == model.Status("blocked", "why", "2026-11-21T12:00:00Z")
    text = refused(stage.hook("a/1"), "status-set", "--application=True", "active")
    assert "not the leader" in text
    stage.hook("a/0").run("status-set", ["--application=True", "active"], "")
    assert stage.world.applications["a"].status.current == "active"


def test_only_the_leader_reads_the_application_s_status(stage: Stage) -> None:
    assert get(stage.hook("a/0"), "status-get", "--application=True")["application-status"]
    text = refused(stage.hook("a/1"), "status-get", "--application=True")
    assert "not the leader" in text


@pytest.mark.parametrize("word", ["error", "unknown", "terminated", "Active", ""])
def test_a_status_that_is_not_a_charm_s_to_set_is_refused(stage: Stage, word: str) -> None:
    before = stage.world.unit("a/0").status.current
    assert f'invalid status "{word}"' in refused(stage.hook("a/0"), "status-set", word, "why")
    assert stage.world.unit("a/0").status.current == before


@pytest.mark.parametrize("port", ["0", "65536", "80/sctp", "80-", "http"])
def test_a_port_that_is_none_is_refused(stage: Stage, port: str) -> None:
    assert f'invalid port "{port}"' in refused(stage.hook("a/0"), "open-port", port)


@pytest.mark.parametrize("tool", ["credential-get", "juju-reboot", "storage-add"])
def test_a_tool_of_juju_s_that_onebox_lacks_says_why(stage: Stage, tool: str) -> None:
    text = refused(stage.hook("a/0"), tool, "data=1")
    assert text.startswith(f"ERROR onebox has no hook tool {tool}: ")


@pytest.mark.parametrize("tool", ["pod-spec-set", "leader-get", "no-such-tool"])
def test_a_tool_that_is_not_there_is_named(stage: Stage, tool: str) -> None:
    assert tool in refused(stage.hook("a/0"), tool)


@pytest.mark.parametrize("tool", hooktools.NAMES)
def test_an_unknown_option_is_a_usage_error(stage: Stage, tool: str) -> None:
    context = stage.hook("a/0", model.Hook("act", operation=1))
    stage.world.operations[1] = model.Operation(1, "a/0", "act", "uuid")
    with pytest.raises(hooktools.ToolError):
        context.run(tool, ["--no-such-option"], "")


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=40)


@hypothesis.given(bag=st.dictionaries(TEXT.filter(bool), TEXT, max_size=5))
def test_databags_hold_any_text(bag: dict[str, str]) -> None:
    stage = Stage()
    context = stage.hook("a/0")
    context.run("relation-set", ["-r", "db:7", "--file", "-"], json.dumps(bag))
    context.commit()
    expected = {key: value for key, value in bag.items() if value}
    assert get(stage.hook("b/0"), "relation-get", "-r", "db:7", "-", "a/0") == expected
