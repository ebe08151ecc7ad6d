"""What the tutorial tells its readers to type does what it says."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import time
from collections.abc import Generator, Mapping

import jubilant
import pytest

from onebox import home, stack
from tests import docs_commands
from tests.e2e import users

TUTORIAL = home.CHECKOUT / "docs" / "tutorial" / "from-nothing-to-a-prediction.md"


class Shell:
    """A shell in the checkout, as a reader has it open.

    Args:
        folder: keeps its variables between two commands.
        environment: the variables that it begins with.
    """

    def __init__(self, folder: pathlib.Path, environment: Mapping[str, str]):
        self._variables = folder / "variables"
        self._variables.touch()
        self._environment = dict(environment)

    def run(self, text: str) -> subprocess.CompletedProcess[str]:
        """Run one command, with standard error among its output."""
        script = f". {self._variables}\n{text}\nstatus=$?\nexport -p >{self._variables}\n"
        return subprocess.run(
            ["bash", "-c", f"{script}exit $status"],
            cwd=home.CHECKOUT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )


@pytest.fixture
def shell(
    made: users.Made, access: stack.Access, juju: jubilant.Juju, tmp_path: pathlib.Path
) -> Generator[Shell]:
    """A shell with the printed block pasted, on a stack that is as it was in the end."""
    yield Shell(tmp_path, {**os.environ, **access.environment()})
    juju.config(stack.MODELS, {"models-uri": "models:/wine@champion"})
    users.settle(juju)


def test_the_tutorial_does_what_it_shows(shell: Shell, juju: jubilant.Juju) -> None:
    typed = [command for command in docs_commands.commands(TUTORIAL) if command.runs]
    assert len(typed) > 10
    for command in typed:
        # Readers look at the status until it shows what the page shows; the rest they type once.
        again = re.match(r"juju status\b", command.text) is not None
        deadline = time.monotonic() + (users.TIMEOUT if again else 0)
        if not again:
            # Nobody types as fast as a machine: a relation that goes is gone by then.
            users.rest(juju, users.TIMEOUT)
        while True:
            done = shell.run(command.text)
            where = f"{TUTORIAL.name}:{command.line}: {command.text}\n{done.stdout}"
            assert done.returncode == 0, where
            missing = command.missing(done.stdout)
            if not missing or time.monotonic() > deadline:
                break
            time.sleep(1)
        assert missing == [], where
