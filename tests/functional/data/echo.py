"""An application behind a proxy: it answers with the request that it got, and counts requests.

python3 echo.py PORT
"""

import hashlib
import http.server
import json
import sys
import threading
import urllib.parse

lock = threading.Lock()
seen: list[str] = []
sizes: list[int] = []


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60
    # One packet per answer: two small ones cost 40 ms each time (Nagle, delayed ACK).
    wbufsize = -1

    def answer(self) -> None:
        path = urllib.parse.urlsplit(self.path).path
        if path == "/seen":
            with lock:
                self.send({"seen": seen, "received": sum(sizes)})
            return
        if path == "/forget":
            with lock:
                seen.clear()
                sizes.clear()
            self.send({})
            return
        with lock:
            seen.append(f"{self.command} {self.path}")
        if path.endswith("/break"):
            self.close_connection = True
            return
        if path.endswith("/redirect"):
            self.send({}, 307, Location=f"http://{self.headers['Host']}/elsewhere")
            return
        digest, length = hashlib.sha256(), 0
        for piece in self.body():
            digest.update(piece)
            length += len(piece)
            with lock:
                sizes.append(len(piece))
        self.send(
            {
                "method": self.command,
                "path": self.path,
                "headers": {name.lower(): value for name, value in self.headers.items()},
                "length": length,
                "sha256": digest.hexdigest(),
            }
        )

    def body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left > 0 and (piece := self.rfile.read1(min(left, 65536))):
            left -= len(piece)
            yield piece

    def send(self, content: object, status: int = 200, **headers: str) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = answer

    def log_message(self, *_: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


Server(("0.0.0.0", int(sys.argv[1])), Handler).serve_forever()
