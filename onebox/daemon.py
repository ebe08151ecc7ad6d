"""The onebox daemon: keeps the models on disk, runs the engine, listens to the command line."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import pathlib
import signal
import socketserver
import sys
import threading
import typing

import msgspec

from onebox import api, changes, engine, home, model, pods


class Daemon:
    """One onebox at work.

    Args:
        directory: where it lives.
    """

    def __init__(self, directory: home.Home):
        self._home = directory
        directory.path.mkdir(parents=True, exist_ok=True)
        # Root alone reads what is inside, since the state holds secrets; charms in their pods
        # pass through to the sockets and directories that are mounted for them.
        directory.path.chmod(0o711)
        self._lock_file = (directory.path / "daemon.lock").open("w")
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"a onebox daemon already runs for {directory.path}", file=sys.stderr)
            sys.exit(os.EX_TEMPFAIL)
        engine.kill_stale_hooks(directory)
        self._world = load(directory.state)
        podman = pods.Podman(directory.prefix, os.environ.get("ONEBOX_SUBNET"), directory.path)
        podman.ensure_network()
        self._engine = engine.Engine(directory, self._world, podman, self._save)
        self._api = api.Api(directory, self._world, self._engine)
        self._ended = threading.Event()

    def run(self) -> None:
        """Work until a signal or a request says to stop; the pods stay."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._ended.set())
        self._engine.start()
        server = self._listen()
        threading.Thread(target=server.serve_forever, daemon=True, name="api").start()
        self._ended.wait()
        self._home.socket.unlink(missing_ok=True)
        self._engine.stop()
        with self._engine.lock:
            self._save()

    def _save(self) -> None:
        save(self._home.state, self._world)

    def _listen(self) -> socketserver.ThreadingUnixStreamServer:
        answer = self._answer

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(BrokenPipeError):
                    answer(self.rfile, self.wfile)

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True
            request_queue_size = 64

        self._home.socket.unlink(missing_ok=True)
        before = os.umask(0o077)
        try:
            return Server(str(self._home.socket), Handler)
        finally:
            os.umask(before)

    def _answer(self, reader: io.BufferedIOBase, writer: io.BufferedIOBase) -> None:
        def send(message: dict[str, typing.Any]) -> None:
            writer.write(json.dumps(message).encode() + b"\n")
            writer.flush()

        line = reader.readline()
        if not line:
            return
        message = json.loads(line)
        if message["method"] == "stop":
            send({"result": None})
            self._ended.set()
            return
        try:
            send({"result": self._api.answer(message, lambda text: send({"progress": text}))})
        except (changes.UserError, pods.PodmanError) as error:
            send({"error": str(error)})


def load(path: pathlib.Path) -> model.World:
    """Read the saved models; none are there yet when the file is not."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=model.World)
    except FileNotFoundError:
        return model.World()


def save(path: pathlib.Path, world: model.World) -> None:
    """Save the models so that a crash at any moment leaves the old file or the new one.

    Not forced to the disk, which would cost each hook some ten milliseconds: after a power cut
    the file may be some seconds old, but the pods whose hooks it would know of are gone as well.
    """
    partial = path.with_suffix(".new")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(world))
    partial.rename(path)


def main() -> None:
    """Run the daemon of this checkout."""
    Daemon(home.find()).run()


if __name__ == "__main__":
    main()
