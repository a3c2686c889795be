"""gs:// on this machine: gcp-storage-emulator, and before it a proxy that does what the emulator leaves out.

The emulator (2026.7.19) answers 200 to a write with ifGenerationMatch=0 although the object exists, and does not say
which generation it gives. The proxy honors generation preconditions, says it, and can be told to fail: see `proxy`.

    with running() as store:
        environment = os.environ | store.environment

    python -m tests.storage.gcs                   # serves until it is killed, and prints the variables
"""

import contextlib
import importlib.util
import json
import logging
import re
import threading
import urllib.parse
from collections.abc import Iterator

from tests.storage import proxy

MISSING = [name for name in ("gcsfs", "gcp_storage_emulator") if importlib.util.find_spec(name) is None]
WHY = f"needs {' and '.join(MISSING)}, which no test installs: pip install gcsfs gcp-storage-emulator"
JSON = [("Content-Type", "application/json")]


class Store(proxy.Proxy):
    def __init__(self, port: int, behind: int):
        super().__init__(port, behind)
        self._writing = threading.Lock()

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

    def about(self, path: str, body: bytes) -> str:
        named = _object(urllib.parse.urlsplit(path).path, {}, body[:2000])
        return super().about(path, body) + (f" {named[1]}" if named else "")

    def failure(self, status: int) -> proxy.Answer:
        reasons = {401: "Invalid Credentials", 403: "does not have storage.objects.get access"}
        return self._error(status, reasons.get(status, "try again"))

    def _error(self, status: int, message: str) -> proxy.Answer:
        return status, JSON, json.dumps({"error": {"code": status, "message": message}}).encode()

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> proxy.Answer:
        parts = urllib.parse.urlsplit(path)
        query = urllib.parse.parse_qs(parts.query)
        wanted = query.get("ifGenerationMatch") if method in ("POST", "PUT", "DELETE") else None
        about = _object(parts.path, query, body) if wanted else None
        with self._writing if wanted else contextlib.nullcontext():
            if about and self.generation(*about) != wanted[0]:
                return self._error(412, "conditionNotMet")
            status, answered, content = self.forward(method, path, headers, body)
            if query.get("alt") == ["media"] and status < 300 and (read := _object(parts.path, query, b"")):
                answered = [*answered, ("x-goog-generation", self.generation(*read))]
            return status, answered, content

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


@contextlib.contextmanager
def running(port: int = 0) -> Iterator[Store]:
    """An emulator with one empty bucket, in memory."""
    from gcp_storage_emulator.server import create_server

    for name in ("gcp_storage_emulator", "api"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # it logs each object that is not there
    store = Store(port or proxy.free_port(), proxy.free_port())
    emulator = create_server("127.0.0.1", store.behind, in_memory=True, default_bucket=proxy.BUCKET)
    with proxy.serving(store, emulator):
        yield store


if __name__ == "__main__":
    proxy.serve(running)
