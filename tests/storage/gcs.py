"""gs:// on this machine: gcp-storage-emulator, and before it a proxy that does what the emulator leaves out.

The emulator (2026.7.19) answers 200 to a write with ifGenerationMatch=0 although the object exists, and does not say
which generation it gives. The proxy honors generation preconditions, says it, and can be told to fail:

    with running() as store:
        environment = os.environ | store.environment
        store.fault(status=503, times=2)          # the next two requests
        store.fault(status=401)                   # all from now on
        store.fault(cut=True, match="default")    # an upload breaks off half-way
        store.clear()

    python -m tests.storage.gcs                   # serves until it is killed, and prints the variables
"""

import contextlib
import dataclasses
import http.client
import http.server
import importlib.util
import json
import logging
import os
import re
import socket
import threading
import time
import urllib.parse
from collections.abc import Iterator

BUCKET = "bucket"
MISSING = [name for name in ("gcsfs", "gcp_storage_emulator") if importlib.util.find_spec(name) is None]
WHY = f"needs {' and '.join(MISSING)}, which no test installs: pip install gcsfs gcp-storage-emulator"


@dataclasses.dataclass
class Fault:
    status: int = 0
    times: float = float("inf")
    match: str = ""
    method: str = ""
    cut: bool = False


class Store:
    """A running emulator and its proxy.

    Attributes:
      requests: (method, path) of what was asked, in order.
    """

    def __init__(self, port: int, behind: int):
        self.port, self.behind = port, behind
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        self.written = threading.Lock()

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which gcsfs, google-cloud-storage and TensorStore find it."""
        address = f"http://127.0.0.1:{self.port}"
        return {
            "STORAGE_EMULATOR_HOST": address,
            "TENSORSTORE_GCS_HTTP_URL": address,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "abc",
            "GOOGLE_CLOUD_PROJECT": "test",
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # else gcsfs waits a minute a bucket for it
        }

    def fault(self, status: int = 0, **how) -> None:
        self.faults.append(Fault(status, **how))

    def clear(self) -> None:
        self.faults.clear()

    def due(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.times > 0 and fault.match in urllib.parse.unquote(path) and fault.method in ("", method):
                fault.times -= 1
                return fault
        return None

    def forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, list, bytes]:
        # The emulator closes each connection.
        connection = http.client.HTTPConnection("127.0.0.1", self.behind, timeout=60)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def generation(self, bucket: str, name: str) -> str:
        """That of an object; "0" where there is none."""
        path = f"/storage/v1/b/{bucket}/o/{urllib.parse.quote(name, safe='')}"
        status, _, body = self.forward("GET", path, {}, b"")
        return json.loads(body)["generation"] if status == 200 else "0"


def _object(path: str, query: dict[str, list[str]], body: bytes) -> tuple[str, str] | None:
    """The bucket and name of the object that a request is about."""
    match = re.search(r"/b/([^/]+)/o(?:/([^?]+))?$", path)
    if match is None:
        return None
    name = urllib.parse.unquote(match[2] or "") or query.get("name", [""])[0]
    if not name and (found := re.search(rb'"name"\s*:\s*("(?:[^"\\]|\\.)*")', body)):
        name = json.loads(found[1])
    return (match[1], name) if name else None


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer takes 40 ms
    store: Store

    def _serve(self) -> None:
        body = self._body()
        store, parts = self.store, urllib.parse.urlsplit(self.path)
        store.requests.append((self.command, self.path))
        fault = store.due(self.command, self.path)
        if fault is not None and fault.cut:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if fault is not None:
            reasons = {401: "Invalid Credentials", 403: "does not have storage.objects.get access"}
            message = reasons.get(fault.status, "try again")
            content = json.dumps({"error": {"code": fault.status, "message": message}}).encode()
            return self._answer(fault.status, [("Content-Type", "application/json")], content)
        query = urllib.parse.parse_qs(parts.query)
        headers = {
            k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection", "transfer-encoding")
        }
        headers["Content-Length"] = str(len(body))
        headers["Host"] = self.headers.get("Host", "")
        wanted = query.get("ifGenerationMatch") if self.command in ("POST", "PUT", "DELETE") else None
        about = _object(parts.path, query, body) if wanted else None
        with store.written if wanted else contextlib.nullcontext():
            if about and store.generation(*about) != wanted[0]:
                content = json.dumps({"error": {"code": 412, "message": "conditionNotMet"}}).encode()
                return self._answer(412, [("Content-Type", "application/json")], content)
            status, answered, content = store.forward(self.command, self.path, headers, body)
            if query.get("alt") == ["media"] and status < 300 and (read := _object(parts.path, query, b"")):
                answered = [*answered, ("x-goog-generation", store.generation(*read))]
            self._answer(status, answered, content)

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
        self.send_header("Content-Length", str(len(content)))
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


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@contextlib.contextmanager
def running(port: int = 0) -> Iterator[Store]:
    """An emulator with one empty bucket, in memory."""
    from gcp_storage_emulator.server import create_server

    for name in ("gcp_storage_emulator", "api"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # it logs each object that is not there
    store = Store(port or _free_port(), _free_port())
    emulator = create_server("127.0.0.1", store.behind, in_memory=True, default_bucket=BUCKET)
    emulator.start()
    handler = type("Handler", (_Handler,), {"store": store})
    proxy = _Server(("127.0.0.1", store.port), handler)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        yield store
    finally:
        proxy.shutdown()
        proxy.server_close()
        emulator.stop()


if __name__ == "__main__":
    with running(int(os.environ.get("PORT", "0"))) as store:
        print("\n".join(f"export {name}={value}" for name, value in store.environment.items()), flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(1e9)
