"""Answer hook tools: the socket that charm containers see, and the contexts behind it."""

from __future__ import annotations

import io
import pathlib
import socketserver
import threading

from onebox import hooktools

_LONGEST_FIELD = 64 * 1024 * 1024


class HookServer:
    """Serves the hook tools of every unit on one Unix socket.

    A tool names its context by the random id in its environment, so a charm can reach nothing
    but the context of its own running hook.

    Args:
        path: of the socket.
        lock: held while a tool runs, since tools read and change the model.
    """

    def __init__(self, path: pathlib.Path, lock: threading.Condition):
        self._contexts: dict[str, hooktools.Context] = {}
        self._lock = lock
        path.unlink(missing_ok=True)
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                outer._handle(self.rfile, self.wfile)

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True
            request_queue_size = 64

        self._server = Server(str(path), Handler)
        # Charms may run as any user; the context's id is what protects.
        path.chmod(0o666)

    def start(self) -> None:
        """Serve from now on, in a thread."""
        threading.Thread(target=self._server.serve_forever, daemon=True, name="hooks").start()

    def stop(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()

    def open(self, identifier: str, context: hooktools.Context) -> None:
        """Let tools use a context."""
        self._contexts[identifier] = context

    def close(self, identifier: str) -> None:
        """End a context: tools that come later fail."""
        self._contexts.pop(identifier, None)

    def _handle(self, reader: io.BufferedIOBase, writer: io.BufferedIOBase) -> None:
        identifier, tool, stdin, count = (_field(reader) for _ in range(4))
        args = [_field(reader) for _ in range(int(count))]
        context = self._contexts.get(identifier)
        if context is None:
            answer = (1, "", "ERROR no hook is running in this context\n")
        else:
            try:
                with self._lock:
                    out = context.run(tool, args, stdin)
                answer = (0, f"{out}\n" if out else "", "")
            except hooktools.ToolError as error:
                answer = (error.code, "", f"{error}\n")
        for part in answer:
            data = str(part).encode()
            writer.write(b"%d\n%s" % (len(data), data))


def _field(reader: io.BufferedIOBase) -> str:
    length = int(reader.readline(32) or b"0")
    if not 0 <= length <= _LONGEST_FIELD:
        raise ValueError(f"field of {length} bytes")
    return reader.read(length).decode("utf-8", "surrogateescape")
