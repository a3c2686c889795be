"""gs:// and s3:// in the memory of this process, by fsspec's own memory file system."""

import contextlib
from collections.abc import Iterator

import fsspec
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from tx_jax.storage import cache, schemes


class _Buckets(list):
    """A store has no folders of its own: none is remembered but the bucket."""

    def append(self, path: str) -> None:
        pass


class MemoryStore(MemoryFileSystem):
    """With one bucket, `bucket`. What `failing` says is raised by the next calls of these methods."""

    protocol = ("gs", "gcs", "s3")
    store: dict = {}  # noqa: RUF012 - as in the class above, which this one must not share with it
    pseudo_dirs: list = _Buckets(["", "/bucket"])
    failing: dict = {}  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.partition("://")[2].strip("/") if "://" in path else "/" + path.strip("/")

    def _fail(self, method: str) -> None:
        if error := self.failing.get(method):
            raise error

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        self._fail("write")
        return super().pipe_file(path, value, mode=mode, **kwargs)

    def put_file(self, lpath, rpath, **kwargs):
        self._fail("write")
        return super().put_file(lpath, rpath, **kwargs)

    def cat_file(self, path, **kwargs):
        self._fail("read")
        return super().cat_file(path, **kwargs)

    def ls(self, path, detail=True, **kwargs):
        self._fail("list")
        return super().ls(path, detail=detail, **kwargs)


@contextlib.contextmanager
def memory_store() -> Iterator[type[MemoryStore]]:
    known = {name: _registry.get(name) for name in ("gs", "s3")}
    for name in known:
        fsspec.register_implementation(name, MemoryStore, clobber=True)
    schemes.filesystem.cache_clear()
    try:
        yield MemoryStore
    finally:
        for name, kind in known.items():
            _registry.pop(name)
            if kind is not None:
                fsspec.register_implementation(name, kind, clobber=True)
        schemes.filesystem.cache_clear()
        cache.forget()
        MemoryStore.store.clear()
        MemoryStore.failing.clear()
