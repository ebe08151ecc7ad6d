"""The requests of the command line: each one checks, changes the model, and answers.

A request is a JSON object with ``method``, ``model`` (null for the current one) and ``params``.
"""

from __future__ import annotations

import dataclasses
import datetime
import pathlib
import shutil
import time
import typing
from collections.abc import Callable, Mapping

from onebox import (
    changes,
    charmfile,
    engine,
    events,
    faults,
    home,
    hooktools,
    model,
    report,
    volumes,
)


class Params(dict[str, typing.Any]):
    """The parameters of a request; one that is needed and not there is refused by name."""

    def __missing__(self, key: str) -> typing.Any:
        raise changes.UserError(f"the request has no parameter {key!r}")


@dataclasses.dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        world: the model that it is about.
        params: its parameters.
        progress: tells the user what is going on meanwhile.
    """

    world: model.Model
    params: Params
    progress: Callable[[str], None]


class Api:
    """Answers requests.

    Args:
        directory: where this onebox lives.
        world: its models.
        runner: its engine, whose lock guards the models.
    """

    def __init__(self, directory: home.Home, world: model.World, runner: engine.Engine):
        self._home = directory
        self._world = world
        self._engine = runner

    def answer(
        self, message: Mapping[str, typing.Any], progress: Callable[[str], None]
    ) -> typing.Any:
        """Carry out a request.

        Raises:
            changes.UserError: it cannot be done; the text is for the user.
        """
        name, params = message["method"], Params(message.get("params") or {})
        if name in _WORLD:
            with self._engine.lock:
                return _WORLD[name](self, params)
        method = _MODEL.get(name)
        if method is None:
            raise changes.UserError(f"onebox has no request {name}")
        with self._engine.lock:
            request = Request(self._find(message.get("model")), params, progress)
        if name in _UNLOCKED:
            return method(self, request)
        with self._engine.lock:
            answer = method(self, request)
            if name not in _READING:
                self._engine.changed()
            return answer

    def _find(self, name: str | None) -> model.Model:
        name = (name or self._world.current).rpartition(":")[2].rpartition("/")[2]
        if not name:
            raise changes.UserError(
                'No model in focus. Please use "juju models" to see models available to you.'
            )
        if name not in self._world.models:
            raise changes.UserError(f'model "{name}" not found')
        return self._world.models[name]

    # Models.

    def version(self, _params: Params) -> typing.Any:
        """Return the version of Juju that is copied."""
        return model.JUJU_VERSION

    def models(self, _params: Params) -> typing.Any:
        """Return all models."""
        return report.models(self._world)

    def add_model(self, params: Params) -> typing.Any:
        """Add a model, and work in it from now on unless told not to."""
        added = changes.add_model(self._world, params["name"], _now())
        added.seed = params.get("seed")
        added.config.update(params.get("config") or {})
        if params.get("switch", True) or not self._world.current:
            self._world.current = added.name
        self._home.model(added.name).mkdir(parents=True, exist_ok=True)
        self._engine.changed()
        return added.name

    def switch(self, params: Params) -> typing.Any:
        """Work in another model from now on."""
        self._world.current = self._find(params["name"]).name
        self._engine.changed()
        return self._world.current

    def destroy_model(self, request: Request) -> typing.Any:
        """Remove a model and all that is in it, and return when it is gone."""
        world, force = request.world, bool(request.params.get("force"))
        with self._engine.lock:
            if world.storage and not request.params.get("destroy_storage"):
                raise changes.UserError(
                    f'cannot destroy model "{world.name}": it has persistent storage; use '
                    "--destroy-storage"
                )
            for name in list(world.applications):
                changes.remove_application(world, name, destroy_storage=True, force=force)
            self._engine.changed()
            while world.applications:
                request.progress(f"{len(world.applications)} application(s)")
                self._engine.lock.wait(timeout=2)
            for storage in world.storage.values():
                # Of applications that were removed before, without their storage.
                volumes.remove(storage)
            del self._world.models[world.name]
            if self._world.current == world.name:
                self._world.current = next(iter(self._world.models), "")
            self._engine.changed()
        shutil.rmtree(self._home.model(world.name), ignore_errors=True)
        return None

    def model_config(self, request: Request) -> typing.Any:
        """Return the model's configuration, after the changes that were asked for."""
        for key in request.params.get("reset") or []:
            request.world.config.pop(key, None)
        request.world.config.update(request.params.get("values") or {})
        soon = time.time() + events.interval(request.world)
        for unit in request.world.units():
            # A shorter interval of update-status counts from now on.
            unit.update_status = min(unit.update_status, soon)
        return dict(request.world.config)

    def status(self, request: Request) -> typing.Any:
        """Return Juju's status."""
        return report.status(request.world, _now())

    def settle(self, request: Request) -> typing.Any:
        """Return once no unit has a hook to run; refuse after ``timeout`` seconds."""
        deadline = time.monotonic() + float(request.params.get("timeout", 60))
        with self._engine.lock:
            while busy := self._engine.busy(request.world):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise changes.UserError(f"still at work: {', '.join(busy)}")
                self._engine.lock.wait(timeout=min(left, 1))

    def show_model(self, request: Request) -> typing.Any:
        """Return what ``juju show-model`` shows."""
        return report.show_model(request.world)

    # Applications.

    def deploy(self, request: Request) -> typing.Any:
        """Deploy a packed charm."""
        params = request.params
        charm = _charm(params["charm"])
        app = changes.deploy(
            request.world,
            changes.Deploy(
                charm=charm,
                name=params.get("application") or charm.name,
                config=params.get("config") or {},
                scale=int(params.get("num_units", 1)),
                resources=params.get("resources") or {},
                storage=params.get("storage") or {},
                trust=bool(params.get("trust")),
                channel=params.get("channel") or "",
                publish=[(int(a), int(b)) for a, b in params.get("publish") or []],
            ),
            str(self._engine.storage_root(request.world)),
        )
        return app.name

    def refresh(self, request: Request) -> typing.Any:
        """Give an application another charm or other images."""
        params = request.params
        path = params.get("path")
        changes.refresh(
            request.world,
            params["application"],
            _charm(path) if path else None,
            params.get("resources") or {},
            params.get("config") or {},
        )
        app = request.world.applications[params["application"]]
        if params.get("trust"):
            app.trust = True
        return app.revision

    def remove_application(self, request: Request) -> typing.Any:
        """Begin to remove an application."""
        changes.remove_application(
            request.world,
            request.params["application"],
            destroy_storage=bool(request.params.get("destroy_storage")),
            force=bool(request.params.get("force")),
        )

    def scale(self, request: Request) -> typing.Any:
        """Ask for a number of units."""
        self._scale(request, int(request.params["scale"]))

    def add_units(self, request: Request) -> typing.Any:
        """Ask for more units."""
        app = changes.application(request.world, request.params["application"])
        self._scale(request, app.scale + int(request.params.get("count", 1)))

    def remove_units(self, request: Request) -> typing.Any:
        """Ask for fewer units."""
        app = changes.application(request.world, request.params["application"])
        self._scale(request, app.scale - int(request.params.get("count", 1)))
        return app.scale

    def _scale(self, request: Request, wanted: int) -> None:
        params, root = request.params, str(self._engine.storage_root(request.world))
        force = bool(params.get("force"))
        changes.scale(request.world, params["application"], wanted, root, force=force)

    def trust(self, request: Request) -> typing.Any:
        """Trust an application with the cluster, or no longer."""
        app = changes.application(request.world, request.params["application"])
        app.trust = not request.params.get("remove")

    def expose(self, request: Request) -> typing.Any:
        """Note that an application is exposed."""
        changes.application(request.world, request.params["application"]).exposed = True

    def unexpose(self, request: Request) -> typing.Any:
        """Note that an application is not exposed."""
        changes.application(request.world, request.params["application"]).exposed = False

    def config_get(self, request: Request) -> typing.Any:
        """Return an application's options."""
        app = changes.application(request.world, request.params["application"])
        return report.config(request.world, app.name)

    def config_set(self, request: Request) -> typing.Any:
        """Set and reset an application's options."""
        changes.configure(
            request.world,
            request.params["application"],
            request.params.get("values") or {},
            request.params.get("reset") or [],
        )

    def integrate(self, request: Request) -> typing.Any:
        """Relate two applications."""
        return changes.integrate(request.world, request.params["a"], request.params["b"]).id

    def remove_relation(self, request: Request) -> typing.Any:
        """Begin to remove a relation."""
        changes.remove_relation(
            request.world,
            request.params["a"],
            request.params["b"],
            force=bool(request.params.get("force")),
        )

    # Units.

    def show_unit(self, request: Request) -> typing.Any:
        """Return what ``juju show-unit`` shows."""
        changes.unit(request.world, request.params["unit"])
        return report.show_unit(request.world, request.params["unit"])

    def resolved(self, request: Request) -> typing.Any:
        """Let a unit in error go on."""
        name, retry = request.params["unit"], not request.params.get("no_retry")
        hook = changes.resolved(request.world, name, retry=retry, now=time.time())
        if not retry:
            events.succeeded(request.world, request.world.unit(name), hook, time.time())

    def run(self, request: Request) -> typing.Any:
        """Ask a unit to run an action; return the operation's id."""
        return changes.enqueue(
            request.world,
            request.params["unit"],
            request.params["action"],
            request.params.get("params") or {},
            hooktools.timestamp(_now()),
        ).id

    def operation(self, request: Request) -> typing.Any:
        """Return how an action is getting on."""
        return report.operation(changes.operation(request.world, int(request.params["operation"])))

    def cancel(self, request: Request) -> typing.Any:
        """Take back an action that waits, or kill one that runs; return what came of it."""
        world, identifier = request.world, int(request.params["operation"])
        with self._engine.lock:
            found = changes.cancel(world, identifier, hooktools.timestamp(_now()))
            self._engine.changed()
            while found.status == "aborting":
                # Again, since one that has just begun may have no process yet.
                self._engine.kill_hook(world.name, found.unit)
                self._engine.lock.wait(timeout=0.1)
        return report.operation(found)

    def execute(self, request: Request) -> typing.Any:
        """Run a command in a unit with hook tools at hand."""
        name = request.params["unit"]
        with self._engine.lock:
            changes.unit(request.world, name)
        command = engine.Command(request.params["argv"], float(request.params.get("timeout") or 0))
        self._engine.execute(request.world.name, name, command)
        return {"code": command.code, "stdout": command.stdout, "stderr": command.stderr}

    def enter(self, request: Request) -> typing.Any:
        """Return the command line that leads into a container of a unit."""
        params = request.params
        argv, environment = self._engine.enter(
            request.world.name, params["unit"], params.get("container")
        )
        return {"argv": argv, "env": environment}

    def storage(self, request: Request) -> typing.Any:
        """Return the storage of the model."""
        return report.storage(request.world)

    def fault(self, request: Request) -> typing.Any:
        """Break something on purpose."""
        return faults.inject(self._engine, request.world, request.params)

    # Secrets.

    def add_secret(self, request: Request) -> typing.Any:
        """Add a secret of the user's."""
        params = request.params
        secret = changes.add_secret(
            request.world,
            params["name"],
            params["content"],
            params.get("info") or "",
            hooktools.timestamp(_now()),
        )
        return f"secret:{secret.id}"

    def update_secret(self, request: Request) -> typing.Any:
        """Change a secret of the user's."""
        params = request.params
        secret = changes.user_secret(request.world, params["secret"])
        if params.get("auto_prune") is not None:
            secret.auto_prune = bool(params["auto_prune"])
        changes.update_secret(
            secret,
            params.get("content") or {},
            params.get("name") or "",
            params.get("info") or "",
            hooktools.timestamp(_now()),
        )

    def grant_secret(self, request: Request) -> typing.Any:
        """Let applications read a secret of the user's."""
        params = request.params
        changes.grant(request.world, params["secret"], params["applications"], revoke=False)

    def revoke_secret(self, request: Request) -> typing.Any:
        """Let applications read a secret of the user's no longer."""
        params = request.params
        changes.grant(request.world, params["secret"], params["applications"], revoke=True)

    def remove_secret(self, request: Request) -> typing.Any:
        """Remove a secret of the user's, or one of its revisions."""
        secret = changes.user_secret(request.world, request.params["secret"])
        revision = int(request.params.get("revision") or 0)
        if revision:
            secret.revisions.pop(revision, None)
        if not revision or not secret.revisions:
            del request.world.secrets[secret.id]

    def secrets(self, request: Request) -> typing.Any:
        """Return what ``juju secrets`` shows."""
        return report.secrets(request.world, request.params.get("owner"))

    def show_secret(self, request: Request) -> typing.Any:
        """Return what ``juju show-secret`` shows."""
        params = request.params
        secret = changes.any_secret(request.world, params["secret"])
        return report.show_secret(
            request.world,
            secret,
            reveal=bool(params.get("reveal")),
            revision=params.get("revision"),
            revisions=bool(params.get("revisions")),
        )


def _charm(path: str) -> model.Charm:
    try:
        return charmfile.read(pathlib.Path(path))
    except charmfile.CharmError as error:
        raise changes.UserError(str(error)) from None


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


_WORLD: dict[str, Callable[[Api, Params], typing.Any]] = {
    "add_model": Api.add_model,
    "models": Api.models,
    "switch": Api.switch,
    "version": Api.version,
}

_MODEL: dict[str, Callable[[Api, Request], typing.Any]] = {
    "add_secret": Api.add_secret,
    "add_units": Api.add_units,
    "cancel": Api.cancel,
    "config_get": Api.config_get,
    "config_set": Api.config_set,
    "deploy": Api.deploy,
    "destroy_model": Api.destroy_model,
    "enter": Api.enter,
    "exec": Api.execute,
    "expose": Api.expose,
    "fault": Api.fault,
    "grant_secret": Api.grant_secret,
    "integrate": Api.integrate,
    "model_config": Api.model_config,
    "operation": Api.operation,
    "refresh": Api.refresh,
    "remove_application": Api.remove_application,
    "remove_relation": Api.remove_relation,
    "remove_secret": Api.remove_secret,
    "remove_units": Api.remove_units,
    "resolved": Api.resolved,
    "revoke_secret": Api.revoke_secret,
    "run": Api.run,
    "scale": Api.scale,
    "settle": Api.settle,
    "secrets": Api.secrets,
    "show_model": Api.show_model,
    "show_secret": Api.show_secret,
    "show_unit": Api.show_unit,
    "status": Api.status,
    "storage": Api.storage,
    "trust": Api.trust,
    "unexpose": Api.unexpose,
    "update_secret": Api.update_secret,
}

_READING = frozenset(
    [
        "config_get",
        "operation",
        "secrets",
        "show_model",
        "show_secret",
        "show_unit",
        "status",
        "storage",
    ]
)
"""Requests that change nothing, so nothing is saved or looked at again."""

_UNLOCKED = frozenset(["cancel", "destroy_model", "enter", "exec", "fault", "settle"])
"""Requests that wait for something: they take the lock themselves where they need it."""
