"""s3:// on this machine: moto's server, and before it a proxy that can be told to fail: see `proxy`.

moto (5.2.5) honors If-None-Match.

    with running() as store:
        environment = os.environ | store.environment

    python -m tests.storage.s3                    # serves until it is killed, and prints the variables
"""

import contextlib
import importlib.util
import logging
from collections.abc import Iterator

from tests.storage import proxy

MISSING = [name for name in ("s3fs", "moto", "flask") if importlib.util.find_spec(name) is None]
WHY = f"needs {' and '.join(MISSING)}, which no test installs: pip install s3fs 'moto[server]'"
# What the store says where it is told to answer with a status: credentials that have expired are a bad request to it.
ERRORS = {401: (400, "ExpiredToken"), 403: (403, "AccessDenied"), 503: (503, "SlowDown")}


class Store(proxy.Proxy):
    @property
    def environment(self) -> dict[str, str]:
        """The variables by which s3fs finds it."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def failure(self, status: int) -> proxy.Answer:
        status, code = ERRORS[status]
        content = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>it failed</Message></Error>".encode()
        return status, [("Content-Type", "application/xml")], content


@contextlib.contextmanager
def running(port: int = 0) -> Iterator[Store]:
    """A server with one empty bucket, in memory."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)  # it logs each request
    store = Store(port or proxy.free_port(), proxy.free_port())
    with proxy.serving(store, ThreadedMotoServer("127.0.0.1", store.behind, verbose=False)):
        status, _, _ = store.forward("PUT", f"/{proxy.BUCKET}", {"Host": f"127.0.0.1:{store.port}"}, b"")
        assert status == 200
        yield store


if __name__ == "__main__":
    proxy.serve(running)
