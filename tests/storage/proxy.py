"""A proxy before the emulator of a store, on this machine, which can be told to fail:

store.fault(status=503, times=2)          # the next two requests
store.fault(status=401)                   # all from now on
store.fault(cut=True, match="default")    # an upload breaks off half-way
store.clear()
"""

import contextlib
import dataclasses
import http.client
import http.server
import os
import socket
import threading
import time
import urllib.parse
from collections.abc import Iterator

BUCKET = "bucket"
Answer = tuple[int, list[tuple[str, str]], bytes]  # status, headers, content


@dataclasses.dataclass
class Fault:
    status: int = 0
    times: float = float("inf")
    match: str = ""
    method: str = ""
    cut: bool = False


class Proxy:
    """An emulator and the proxy before it. A subclass says how the store answers.

    Attributes:
      requests: (method, path) of what was asked, in order.
    """

    def __init__(self, port: int, behind: int):
        self.port, self.behind = port, behind
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which libraries find it."""
        raise NotImplementedError

    def failure(self, status: int) -> Answer:
        """What the store says when it fails."""
        raise NotImplementedError

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        return self.forward(method, path, headers, body)

    def fault(self, status: int = 0, **how) -> None:
        self.faults.append(Fault(status, **how))

    def clear(self) -> None:
        self.faults.clear()

    def about(self, path: str, body: bytes) -> str:
        """Text with the name of the object that is asked for."""
        return urllib.parse.unquote(path)

    def due(self, method: str, path: str, body: bytes) -> Fault | None:
        for fault in self.faults:
            if fault.times > 0 and fault.match in self.about(path, body) and fault.method in ("", method):
                fault.times -= 1
                return fault
        return None

    def forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        # The emulators close each connection.
        connection = http.client.HTTPConnection("127.0.0.1", self.behind, timeout=60)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer takes 40 ms
    store: Proxy

    def _serve(self) -> None:
        body = self._body()
        self.store.requests.append((self.command, self.path))
        fault = self.store.due(self.command, self.path, body)
        if fault is not None and fault.cut:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if fault is not None:
            return self._answer(*self.store.failure(fault.status))
        dropped = ("host", "connection", "transfer-encoding", "expect")
        headers = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
        headers["Content-Length"] = str(len(body))
        headers["Host"] = self.headers.get("Host", "")
        self._answer(*self.store.answer(self.command, self.path, headers, body))

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            pieces = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, status: int, headers: list, content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(name, value)
        length = next((value for name, value in headers if name.lower() == "content-length"), "0")
        self.send_header("Content-Length", length if self.command == "HEAD" else str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = _serve

    def log_message(self, *arguments: object) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, address: object) -> None:
        pass  # a client that was killed


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@contextlib.contextmanager
def serving(store: Proxy, emulator) -> Iterator[None]:
    """Starts an emulator and the proxy before it, and stops both."""
    handler = type("Handler", (_Handler,), {"store": store})
    server = _Server(("127.0.0.1", store.port), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    emulator.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        emulator.stop()


def serve(running) -> None:
    """Serves until it is killed, and prints the variables. `running`: that of an emulator."""
    with running(int(os.environ.get("PORT", "0"))) as store:
        print("\n".join(f"export {name}={value}" for name, value in store.environment.items()), flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(1e9)
