"""The compiled side of the hook tools, against the daemon's side."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import threading
import typing
from collections.abc import Iterator, Mapping

import pytest

from onebox import hookclient, hookserver, hooktools


class Heard:
    """A context that takes down what it is asked, and answers with it."""

    def run(self, tool: str, args: list[str], stdin: str) -> str:
        if args == ["refuse"]:
            raise hooktools.ToolError("ERROR no \u2603", code=2)
        return json.dumps([tool, args, stdin])


class Tools:
    """The tools of a hook."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._socket = folder / "hook.sock"
        hookclient.install(folder)

    def run(
        self,
        tool: str,
        *args: str | bytes,
        stdin: bytes = b"",
        variables: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        environment = {
            "JUJU_AGENT_SOCKET_ADDRESS": str(self._socket),
            "JUJU_CONTEXT_ID": "context",
            **(variables or {}),
        }
        return subprocess.run(
            [self._folder / tool, *args],
            env=environment,
            input=stdin,
            capture_output=True,
            check=False,
        )

    def heard(self, tool: str, *args: str | bytes, stdin: bytes = b"") -> tuple[list[str], str]:
        """Return the arguments and the standard input that arrive."""
        done = self.run(tool, *args, stdin=stdin)
        assert (done.returncode, done.stderr) == (0, b"")
        name, arguments, text = json.loads(done.stdout)
        assert name == tool
        return arguments, text


@pytest.fixture
def tools(tmp_path: pathlib.Path) -> Iterator[Tools]:
    made = Tools(tmp_path)
    server = hookserver.HookServer(tmp_path / "hook.sock", threading.Condition())
    server.open("context", typing.cast("hooktools.Context", Heard()))
    server.start()
    yield made
    server.stop()


def test_the_source_has_no_warnings(tmp_path: pathlib.Path) -> None:
    strict = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-static"]
    subprocess.run(["cc", *strict, "-o", tmp_path / "client", hookclient.SOURCE], check=True)


@pytest.mark.parametrize(
    "args",
    [
        [],
        [""],
        ["-r", "3", "-", "app", "--format=json"],
        ["spaces and\nlines", "\u2603", "0", "key=#file=x", "#file=x", "a#file"],
        ["x" * 100_000],
    ],
    ids=["none", "empty", "usual", "odd", "long"],
)
def test_arguments_arrive_as_they_are(tools: Tools, args: list[str]) -> None:
    assert tools.heard("relation-get", *args) == (args, "")


def test_bytes_that_are_no_text_arrive(tools: Tools) -> None:
    arguments, _ = tools.heard("juju-log", b"\xff\xfe")
    assert os.fsencode(arguments[0]) == b"\xff\xfe"


def test_settings_come_from_a_file_or_standard_input(tools: Tools, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "settings"
    content = "key: value\n" * 50_000
    file.write_text(content)
    assert tools.heard("relation-set", "--file", str(file)) == (["--file", str(file)], content)
    said = tools.heard("relation-set", "--file", "-", "-r", "1", stdin=content.encode())
    assert said == (["--file", "-", "-r", "1"], content)
    assert tools.heard("relation-set", "--file", os.devnull) == (["--file", os.devnull], "")


@pytest.mark.parametrize("tool", ["secret-add", "secret-set"])
def test_contents_of_secrets_come_from_files(
    tools: Tools, tmp_path: pathlib.Path, tool: str
) -> None:
    file = tmp_path / "content"
    file.write_text("a=b#c\n" * 20_000)
    assert tools.heard(tool, f"key#file={file}", "--label", "x") == (
        [f"key={file.read_text()}", "--label", "x"],
        "",
    )
    # AND no other tool reads files so
    assert tools.heard("relation-set", f"key#file={file}") == ([f"key#file={file}"], "")


def test_a_refusal_is_told(tools: Tools) -> None:
    done = tools.run("relation-set", "refuse")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode() == "ERROR no \u2603\n"


@pytest.mark.parametrize(
    ("args", "variables", "reason"),
    [
        (["--file", "/nowhere"], {}, "ERROR cannot read /nowhere: No such file or directory\n"),
        ([], {"JUJU_CONTEXT_ID": "other"}, "ERROR no hook is running in this context\n"),
        (
            [],
            {"JUJU_AGENT_SOCKET_ADDRESS": "/nowhere"},
            "ERROR cannot reach onebox: No such file or directory\n",
        ),
        (
            [],
            {"JUJU_AGENT_SOCKET_ADDRESS": "/" + "x" * 200},
            "ERROR JUJU_AGENT_SOCKET_ADDRESS is no path of a socket\n",
        ),
    ],
)
def test_what_cannot_be_done_is_told(
    tools: Tools, args: list[str], variables: dict[str, str], reason: str
) -> None:
    done = tools.run("relation-get", *args, variables=variables)
    assert (done.returncode, done.stdout, done.stderr.decode()) == (1, b"", reason)
