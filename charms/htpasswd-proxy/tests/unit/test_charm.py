"""What the charm does: one event and State in, State out."""

from __future__ import annotations

import dataclasses
import json

import ops
import pytest
from conftest import (
    MODEL,
    RESOLV_CONF,
    config,
    container,
    healthy,
    per_app,
    running,
    secret,
    state,
    text,
    upstream,
    users,
    with_container,
)
from ops import testing

import nginx
from charm import HtpasswdProxyCharm

Context = testing.Context[HtpasswdProxyCharm]
INSIDE = f"http://htpasswd-proxy.{MODEL}.svc.cluster.local:8080"
OWN = "correct horse battery"


def local(after: testing.State, relation: testing.RelationBase) -> dict[str, str]:
    return dict(after.get_relation(relation.id).local_app_data)


def url(after: testing.State, relation: testing.RelationBase) -> str | None:
    answer = local(after, relation).get("ingress")
    return json.loads(answer)["url"] if answer else None


def user_secret(content: dict[str, str]) -> testing.Secret:
    return testing.Secret(content, owner=None)


def test_upstream_gets_its_address_when_nginx_serves(context: Context) -> None:
    # GIVEN an application that asks for an ingress
    asked = upstream()
    before = state(relations={testing.PeerRelation("peers"), asked})
    # WHEN nginx was just started
    starting = context.run(context.on.config_changed(), before)
    # THEN nobody is sent there yet
    assert starting.unit_status == ops.WaitingStatus("nginx is starting")
    assert url(starting, asked) is None
    # AND WHEN its check has succeeded
    after = context.run(context.on.update_status(), healthy(starting))
    # THEN the address is published, with the port open
    assert after.unit_status == ops.ActiveStatus()
    assert url(after, asked) == f"{INSIDE}/mlflow-server"
    assert after.opened_ports == {testing.TCPPort(8080)}


def test_address_is_withdrawn_while_nginx_does_not_answer(context: Context) -> None:
    asked = upstream()
    before = running(context, state(relations={testing.PeerRelation("peers"), asked}))
    # WHEN the check fails
    down = testing.CheckInfo("nginx", status=ops.pebble.CheckStatus.DOWN, failures=3)
    failed = with_container(before, check_infos={down})
    after = context.run(
        context.on.pebble_check_failed(failed.get_container("nginx"), down), failed
    )
    # THEN nobody is sent there
    assert after.unit_status == ops.WaitingStatus("nginx does not answer its health check")
    assert url(after, asked) is None


def test_first_user_is_generated_and_kept_secret(context: Context) -> None:
    after = running(context, state())
    # THEN there is one user, with a password of 160 bits in a secret
    content = secret(after, "first-user").latest_content
    assert content is not None
    assert content["username"] == "admin"
    assert len(content["password"]) >= 27
    assert users(context, after) == {"admin"}
    # AND the password is nowhere else
    everything = [
        str(after.get_container("nginx").plan.to_dict()),
        *(str(relation.local_app_data) for relation in after.relations),
        *(str(relation.local_unit_data) for relation in after.relations),
        str(after.unit_status),
        text(context, after, nginx.PATHS.users),
        config(context, after),
        *(log.message for log in context.juju_log),
    ]
    assert not [place for place in everything if content["password"] in place]


def test_second_run_changes_nothing(context: Context) -> None:
    before = running(context, state(relations={testing.PeerRelation("peers"), upstream()}))
    files = {path: text(context, before, path) for path in (nginx.PATHS.users, nginx.PATHS.config)}
    # WHEN the charm runs again
    after = context.run(context.on.config_changed(), before)
    # THEN files, databags and secrets are the same
    assert {path: text(context, after, path) for path in files} == files
    assert after.relations == before.relations
    assert after.secrets == before.secrets


def test_own_users_can_log_in(context: Context) -> None:
    # GIVEN a secret with two users, one of which has a colon in the password
    own = user_secret({"users": f"ada:{OWN}\n\nbob@example.org:a:b:c:d:e:f:g\n"})
    before = state(secrets={own}, config={"users": own.id})
    # WHEN the charm runs
    after = running(context, before)
    # THEN they are in the password file next to the first user
    assert users(context, after) == {"admin", "ada", "bob@example.org"}
    assert after.unit_status == ops.ActiveStatus()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"users": "ada"}, "line 1 is not of the form name:password"),
        ({"users": f"a b:{OWN}"}, "the name on line 1 must be 1 to 64"),
        ({"users": f"björn:{OWN}"}, "the name on line 1 must be 1 to 64"),
        ({"users": "ada:short"}, "the password of 'ada' has 5 bytes, 12 to 72 are allowed"),
        ({"users": f"ada:{'x' * 73}"}, "the password of 'ada' has 73 bytes"),
        ({"users": f"ada:{OWN}\x00"}, "characters that cannot be typed"),
        ({"users": f"ada:{OWN}\nada:{OWN}"}, "the name 'ada' is there twice"),
        ({"users": f"admin:{OWN}"}, "has the name 'admin'"),
        ({"users": f"relation-1-x:{OWN}"}, "must not begin with 'relation-'"),
        ({"users": "\n"}, "there is no account in it"),
        ({"other": "text"}, "has no key 'users'"),
    ],
)
def test_wrong_users_are_refused_and_the_last_good_ones_stay(
    context: Context, content: dict[str, str], message: str
) -> None:
    # GIVEN a proxy that serves
    good = user_secret({"users": f"carol:{OWN}"})
    bad = user_secret(content)
    before = running(context, state(secrets={good, bad}, config={"users": good.id}))
    # WHEN the option names a secret that is not right
    before = dataclasses.replace(before, config={"users": bad.id})
    after = context.run(context.on.config_changed(), before)
    # THEN one sentence says what, and the users are the same as before
    assert isinstance(after.unit_status, ops.BlockedStatus)
    assert message in after.unit_status.message
    assert OWN not in after.unit_status.message
    assert users(context, after) == {"admin", "carol"}
    assert after.relations == before.relations


def test_users_that_were_not_granted_block(context: Context) -> None:
    before = state(config={"users": "secret:d6q0000000000000000g"})
    after = context.run(context.on.config_changed(), before)
    assert after.unit_status == ops.BlockedStatus(
        "the secret of option users cannot be read: "
        "juju grant-secret secret:d6q0000000000000000g htpasswd-proxy"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"realm": 'x"; return 200'}, "option realm is 'x\"; return 200': allowed is"),
        ({"realm": ""}, "option realm is '': allowed is"),
        ({"username": "a:b"}, "option username is 'a:b': allowed is 1 to 64"),
        ({"username": "x" * 65}, "option username is 'xxxx"),
        ({"username": "relation-1"}, "allowed is a name that does not begin with 'relation-'"),
    ],
)
def test_wrong_options_block(context: Context, options: dict[str, str], message: str) -> None:
    before = running(context, state())
    files = {path: text(context, before, path) for path in (nginx.PATHS.users, nginx.PATHS.config)}
    after = context.run(
        context.on.config_changed(), dataclasses.replace(before, config={**options})
    )
    assert isinstance(after.unit_status, ops.BlockedStatus)
    assert message in after.unit_status.message
    assert {path: text(context, after, path) for path in files} == files


def test_first_user_can_have_another_name(context: Context) -> None:
    before = running(context, state())
    password = (secret(before, "first-user").latest_content or {})["password"]
    after = context.run(
        context.on.config_changed(), dataclasses.replace(before, config={"username": "boss"})
    )
    assert secret(after, "first-user").latest_content == {"username": "boss", "password": password}
    assert users(context, after) == {"boss"}


def test_account_lives_as_long_as_its_relation(context: Context) -> None:
    # GIVEN an application that is related to basic-auth
    client = testing.Relation("basic-auth", remote_app_name="mlflow-server")
    relations = {testing.PeerRelation("peers"), upstream(), client}
    after = running(context, state(relations=relations))
    # THEN it has an account of its own, in a secret that only it may read
    name = f"relation-{client.id}-mlflow-server"
    found = secret(after, f"client-{client.id}")
    assert (found.latest_content or {})["username"] == name
    assert found.remote_grants == {client.id: {"mlflow-server"}}
    assert users(context, after) == {"admin", name}
    sent = local(after, client)
    assert sent["secret-user"] == found.id
    assert json.loads(sent["endpoints"]) == [
        {"application": "mlflow-server", "model": MODEL, "url": f"{INSIDE}/mlflow-server"}
    ]
    # AND WHEN the relation goes
    gone = context.run(context.on.relation_broken(after.get_relation(client.id)), after)
    # THEN so do the account and the secret
    assert users(context, gone) == {"admin"}
    assert {each.label for each in gone.secrets} == {"first-user", "salts"}


def test_follower_has_the_same_users(context: Context) -> None:
    # GIVEN what a leader has made
    led = running(context, state())
    # WHEN another unit starts
    peers = next(each for each in led.relations if each.endpoint == "peers")
    before = state(
        leader=False,
        secrets=led.secrets,
        relations={testing.PeerRelation("peers", local_app_data=peers.local_app_data), upstream()},
    )
    after = running(context, before)
    # THEN its password file is the same, byte by byte, and it writes no application databag
    assert after.unit_status == ops.ActiveStatus()
    assert text(context, after, nginx.PATHS.users) == text(context, led, nginx.PATHS.users)
    assert all(not each.local_app_data for each in after.relations if each.endpoint == "upstreams")


def test_follower_waits_for_the_first_user(context: Context) -> None:
    after = context.run(context.on.config_changed(), state(leader=False))
    assert after.unit_status == ops.WaitingStatus("the leader has not made the first account yet")
    assert not after.get_container("nginx").plan.services


def test_refused_configuration_keeps_the_old_one(context: Context) -> None:
    # GIVEN a proxy that serves, and an nginx that does not like the next configuration
    asked = upstream()
    before = running(context, state(relations={testing.PeerRelation("peers"), asked}))
    good = config(context, before)
    old = before.get_container("nginx")
    before = with_container(before, execs=container(accepts=False).execs)
    # WHEN an option changes
    after = context.run(
        context.on.config_changed(), dataclasses.replace(before, config={"realm": "Lab"})
    )
    # THEN the old configuration stays, and so does what was published
    assert after.unit_status == ops.BlockedStatus(
        "nginx refuses its new configuration and keeps the old"
    )
    assert config(context, after) == good
    assert url(after, asked) == f"{INSIDE}/mlflow-server"
    assert after.get_container("nginx").service_statuses == old.service_statuses
    # AND nothing is left of the candidate
    root = after.get_container("nginx").get_filesystem(context)
    assert not (root / nginx.PATHS.candidate.lstrip("/")).exists()


def test_credentials_action_names_the_secret_and_not_the_password(context: Context) -> None:
    before = running(context, state())
    context.run(context.on.action("get-credentials"), before)
    found = secret(before, "first-user")
    assert context.action_results == {"username": "admin", "secret": found.id}


def test_rotation_changes_the_password_at_once(context: Context) -> None:
    before = running(context, state())
    file, cache_key = text(context, before, nginx.PATHS.users), config(context, before)
    # WHEN the password is rotated
    after = context.run(context.on.action("rotate-password"), before)
    # THEN the secret and the password file have another one, nginx is told, peers are woken
    old, new = secret(before, "first-user"), secret(after, "first-user")
    assert old.latest_content != new.latest_content
    assert (new.latest_content or {})["username"] == "admin"
    assert text(context, after, nginx.PATHS.users) != file
    assert config(context, after) != cache_key
    peers = next(each for each in before.relations if each.endpoint == "peers")
    assert local(after, peers) != local(before, peers)
    assert (new.latest_content or {})["password"] not in str(context.action_results)


def test_rotation_is_for_the_leader(context: Context) -> None:
    before = dataclasses.replace(running(context, state()), leader=False)
    with pytest.raises(testing.ActionFailed) as failed:
        context.run(context.on.action("rotate-password"), before)
    assert failed.value.message == "run this action on the leader"


def test_units_are_reached_by_address(context: Context) -> None:
    # GIVEN two units that sent their addresses
    second = {"host": '"b"', "ip": '"10.1.0.9"'}
    asked = upstream(units={0: {"host": '"a"', "ip": '"10.1.0.7"'}, 1: second})
    after = running(context, state(relations={testing.PeerRelation("peers"), asked}))
    # THEN both are served
    assert "server 10.1.0.7:5000 " in config(context, after)
    assert "server 10.1.0.9:5000 " in config(context, after)
    # AND WHEN a pod came back with another address
    moved = dataclasses.replace(
        after.get_relation(asked.id),
        remote_units_data={0: {"host": '"a"', "ip": '"10.1.0.23"'}, 1: second},
    )
    before = dataclasses.replace(
        after, relations={each for each in after.relations if each.id != asked.id} | {moved}
    )
    later = context.run(context.on.relation_changed(moved, remote_unit=0), before)
    # THEN it is served at that one
    assert "server 10.1.0.23:5000 " in config(context, later)
    assert "10.1.0.7" not in config(context, later)


def test_names_are_resolved_by_the_containers_dns_servers(
    context: Context, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # GIVEN a requirer of the SDI wire, which sends no addresses
    folder = tmp_path_factory.mktemp("etc")
    (folder / "resolv.conf").write_text(RESOLV_CONF)
    mount = testing.Mount(location="/etc/resolv.conf", source=folder / "resolv.conf")
    route = {"service": "dashboard", "namespace": "kubeflow", "port": 80, "prefix": "/d/"}
    asked = upstream({"_supported_versions": "- v2\n", "data": json.dumps(route)}, units={})
    pod = container()
    before = state(
        containers={dataclasses.replace(pod, mounts={**pod.mounts, "resolv": mount})},
        relations={testing.PeerRelation("peers"), asked},
    )
    # WHEN the charm runs
    after = running(context, before)
    # THEN nginx resolves the name of the Service itself, again and again
    assert after.unit_status == ops.ActiveStatus()
    found = config(context, after)
    assert "resolver 10.152.183.10 valid=5s ipv6=off;" in found
    assert "set $server_by_name dashboard.kubeflow.svc.cluster.local:80;" in found
    assert "location /kubeflow-dashboard/ {" in found
    # AND the requirer is told the version, and no address, for which its wire has no place
    assert local(after, asked) == {"_supported_versions": "- v2\n"}


def test_silent_sdi_requirer_is_greeted(context: Context) -> None:
    # GIVEN a requirer of SDI v1 that waits for our version
    asked = upstream({"_supported_versions": "- v1\n"}, units={})
    before = state(relations={testing.PeerRelation("peers"), asked})
    after = context.run(context.on.relation_created(asked), before)
    # THEN it hears one that it speaks
    assert local(after, asked) == {"_supported_versions": "- v1\n"}


@pytest.mark.parametrize(
    ("app", "units", "message"),
    [
        ({"name": '"x"'}, {}, "upstreams (bad): waiting for the model of its request"),
        (per_app(port=0), {}, "port is not a whole number between 1 and 65535"),
        (per_app(name="a/../b"), {}, "name is not a name"),
        (per_app(name="x y"), {}, "name is not a name"),
        (per_app(name="x;}"), {}, "name is not a name"),
        (per_app(name="$host"), {}, "name is not a name"),
        (per_app(scheme="https"), {}, "scheme is not http"),
        (per_app("other"), {0: {"host": '"a b"'}}, "host is neither a name nor an address"),
        (per_app("other"), {0: {"ip": '"127.0.0.1"'}}, "an address is not one of a unit"),
        (per_app("other"), {0: {"ip": '"169.254.169.254"'}}, "an address is not one of a unit"),
        (per_app("other"), {0: {"ip": '"fe80::1%;}"'}}, "an address is not one of a unit"),
        (per_app("other"), {0: {"host": '"localhost"'}}, "an address is not one of a unit"),
        (per_app("mlflow-server"), {}, "path /mlflow-server/ belongs to another one"),
        (per_app("other"), {0: {"host": '"name"'}}, "no DNS server to resolve the units of other"),
    ],
)
def test_wrong_upstream_is_named_and_harms_nobody(
    context: Context, app: dict[str, str], units: dict[int, dict[str, str]], message: str
) -> None:
    # GIVEN an upstream that is right, and one that is not
    good = upstream()
    bad = upstream(app, units, name="bad")
    before = state(relations={testing.PeerRelation("peers"), good, bad})
    # WHEN the charm runs
    after = running(context, before)
    # THEN the right one is served, and the status tells about the other
    assert isinstance(after.unit_status, (ops.BlockedStatus, ops.WaitingStatus))
    assert message in after.unit_status.message
    assert url(after, good) == f"{INSIDE}/mlflow-server"
    assert url(after, bad) is None


def test_upstream_that_turns_wrong_loses_its_address(context: Context) -> None:
    asked = upstream()
    before = running(context, state(relations={testing.PeerRelation("peers"), asked}))
    broken = dataclasses.replace(
        before.get_relation(asked.id), remote_app_data=per_app(port="many")
    )
    before = dataclasses.replace(
        before, relations={each for each in before.relations if each.id != asked.id} | {broken}
    )
    after = context.run(context.on.relation_changed(broken), before)
    assert url(after, asked) is None
    assert "app-mlflow-server" not in config(context, after)


def test_lonely_proxy_says_what_to_do(context: Context) -> None:
    after = running(context, state(relations={testing.PeerRelation("peers")}))
    assert after.unit_status == ops.BlockedStatus(
        "nothing to protect: juju integrate htpasswd-proxy:upstreams APPLICATION"
    )


def test_removed_upstream_is_not_served_any_more(context: Context) -> None:
    asked = upstream()
    before = running(context, state(relations={testing.PeerRelation("peers"), asked}))
    after = context.run(context.on.relation_broken(before.get_relation(asked.id)), before)
    assert "mlflow-server" not in config(context, after)
    assert "mlflow-server" not in text(context, after, f"{nginx.PATHS.pages}/index.html")


def test_outer_ingress_gives_the_public_address(context: Context) -> None:
    # GIVEN an ingress outside that has an address for us
    asked = upstream()
    client = testing.Relation("basic-auth", remote_app_name="mlflow-server")
    outer = testing.Relation(
        "ingress",
        remote_app_name="traefik-k8s",
        remote_app_data={"ingress": '{"url": "https://ml.example.org/team-htpasswd-proxy"}'},
    )
    before = state(relations={testing.PeerRelation("peers"), asked, client, outer})
    after = running(context, before)
    # THEN upstreams and accounts hear of it, and inside keeps its own address
    public = "https://ml.example.org/team-htpasswd-proxy/mlflow-server"
    assert after.unit_status == ops.ActiveStatus()
    assert url(after, asked) == public
    assert json.loads(local(after, client)["endpoints"]) == [
        {
            "application": "mlflow-server",
            "external-url": public,
            "model": MODEL,
            "url": f"{INSIDE}/mlflow-server",
        }
    ]
    # AND the ingress was asked with the prefix stripped
    assert json.loads(local(after, outer)["strip-prefix"]) is True
    assert json.loads(local(after, outer)["port"]) == 8080
    unit_data = after.get_relation(outer.id).local_unit_data
    assert json.loads(unit_data["host"]) == (
        f"htpasswd-proxy-0.htpasswd-proxy-endpoints.{MODEL}.svc.cluster.local"
    )


def test_ingress_that_has_not_answered_is_waited_for(context: Context) -> None:
    asked = upstream()
    outer = testing.Relation("ingress", remote_app_name="traefik-k8s")
    before = state(relations={testing.PeerRelation("peers"), asked, outer})
    after = running(context, before)
    assert after.unit_status == ops.WaitingStatus("ingress (traefik-k8s): waiting for an address")


def test_no_address_that_changes_at_once_is_given(context: Context) -> None:
    # GIVEN an application in front of which there will be an ingress
    asked, outer = upstream(), testing.Relation("ingress", remote_app_name="traefik-k8s")
    relations = {testing.PeerRelation("peers"), asked, outer}
    # WHEN that has not given its address yet
    waiting = running(context, state(relations=relations))
    # THEN nothing is said, rather than an address inside that is replaced a moment later
    assert url(waiting, asked) is None
    # AND an address that was given stays while the ingress comes back
    known = running(context, state(relations={testing.PeerRelation("peers"), asked}))
    again = context.run(
        context.on.relation_created(outer),
        dataclasses.replace(known, relations={*known.relations, outer}),
    )
    assert url(again, asked) == f"{INSIDE}/mlflow-server"


def test_ingress_that_never_gives_an_address_is_not_waited_for(context: Context) -> None:
    # GIVEN an ingress of the SDI wire, as istio-pilot, which answers with its version alone
    asked = upstream()
    outer = testing.Relation(
        "ingress",
        remote_app_name="istio-pilot",
        remote_app_data={"_supported_versions": "- v2\n"},
    )
    relations = {testing.PeerRelation("peers"), asked, outer}
    # WHEN nginx serves
    after = running(context, state(relations=relations))
    # THEN upstreams get the address inside the cluster
    assert after.unit_status == ops.ActiveStatus()
    assert url(after, asked) == f"{INSIDE}/mlflow-server"


def test_update_status_sees_a_workload_that_is_not_well(context: Context) -> None:
    before = running(context, state())
    assert before.unit_status == ops.ActiveStatus()
    stopped = dataclasses.replace(
        before.get_container("nginx"),
        service_statuses={"nginx": ops.pebble.ServiceStatus.INACTIVE},
    )
    after = context.run(
        context.on.update_status(), dataclasses.replace(before, containers={stopped})
    )
    # It was put right at once: the hook that found it does not leave it to the next one.
    assert (
        after.get_container("nginx").service_statuses["nginx"] is ops.pebble.ServiceStatus.ACTIVE
    )


def test_container_that_came_back_empty_gets_the_same_files(context: Context) -> None:
    before = running(context, state())
    files = {path: text(context, before, path) for path in (nginx.PATHS.users, nginx.PATHS.config)}
    # WHEN the pod was replaced
    fresh = dataclasses.replace(before, containers={container()})
    after = context.run(context.on.pebble_ready(fresh.get_container("nginx")), fresh)
    # THEN the files are the same, hashes too, and nginx is asked for its version
    assert {path: text(context, after, path) for path in files} == files
    assert after.workload_version == "1.22.1"


def test_unreachable_container_is_waited_for(context: Context) -> None:
    before = state(containers={testing.Container("nginx", can_connect=False)})
    after = context.run(context.on.config_changed(), before)
    assert after.unit_status == ops.WaitingStatus("container nginx is not ready")


def test_no_peer_relation_yet_is_no_error(context: Context) -> None:
    after = context.run(context.on.config_changed(), state(relations=set()))
    assert isinstance(after.unit_status, ops.WaitingStatus)
    assert not after.secrets


def test_old_passwords_are_removed(context: Context) -> None:
    # GIVEN a password that was rotated twice, so that nobody ever used the second one
    before = running(context, state())
    for _ in range(2):
        before = context.run(context.on.action("rotate-password"), before)
    # WHEN Juju says that this one is not needed
    found = secret(before, "first-user")
    context.run(context.on.secret_remove(found, revision=2), before)
    # THEN it goes
    assert context.removed_secret_revisions == [2]
