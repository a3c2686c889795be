"""Addresses: which ones lead to a store, which library reads it, and whether the bucket is there."""

import functools
import logging
import re
from typing import Any

import fsspec
from fsspec.registry import known_implementations

from tx_jax.errors import InputError
from tx_jax.storage.failures import StoreError, explained

# Whatever can be done with a path can be done on these; the value is what pip installs.
STORES = {"gs": "gcsfs", "s3": "s3fs"}
# Of fsspec's other schemes, those that are no place for data of one's own, or are local.
NOT_READ = ("file", "local", "filecache", "simplecache", "blockcache", "cached", "data", "reference", "zip", "tar")

# At least two letters: one is a Windows drive. `tfds:NAME` is no address.
_ADDRESS = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]+):/")
_UNUSABLE = re.compile(r"[*?\[\]#\x00-\x1f\\]")
BLOCK_BYTES = 8 << 20  # read at once


def scheme_of(text: str) -> str | None:
    """`gs` of gs://bucket/folder; None for a path of this machine's file system."""
    match = _ADDRESS.match(text)
    return match[1].lower() if match else None


def checked(text: str, what: str, *, reads: bool = False) -> str:
    """The address in its one spelling, without asking the store.

    Args:
      what: the flag or key that it was given as; the errors name it.
      reads: whether it is only read, as one file or, with wildcards, as several.

    Raises:
      InputError: an unknown scheme or one that is not for this, a library that is not installed, no bucket, `..`, or
        characters that have another meaning to the library.
    """
    text, scheme = text.strip(), scheme_of(text)
    if scheme not in STORES and not (reads and scheme in _readable()):
        also = "; files to read may also have another scheme of fsspec's" if not reads and scheme in _readable() else ""
        raise InputError(
            f"{what}={text}: paths that begin with {scheme}:// are not supported here, only "
            f"{' and '.join(f'{name}://' for name in STORES)} and those of this machine's file system{also}: copy it "
            "there, or mount it and give the folder"
        )
    before, slashes, key = text.partition("://")
    if not slashes:
        raise InputError(f"{what}={text}: write {before.partition(':')[0]}:// with two slashes")
    parts = key.rstrip("/").split("/")
    if ".." in parts or "." in parts:
        raise InputError(f"{what}={text}: an address cannot contain `..` or `.`: write the whole of it")
    if scheme in STORES:
        if not parts[0] or "" in parts:
            raise InputError(f"{what}={text}: a part of it is empty: it has the form {scheme}://BUCKET/FOLDER")
        if not reads and (found := _UNUSABLE.search(key)):
            raise InputError(f"{what}={text}: {found[0]!r} has another meaning in an address: choose another name")
    try:
        filesystem(scheme)
    except InputError as error:
        raise InputError(f"{what}={text}: {error}") from None
    return f"{scheme}://{key.rstrip('/')}"


@functools.cache
def _readable() -> frozenset[str]:
    return frozenset(fsspec.available_protocols()) - set(NOT_READ)


@functools.cache
def filesystem(scheme: str) -> Any:
    """fsspec's file system for a scheme. Listings are never kept: other processes, and Orbax, write there too.

    Raises:
      InputError: its library is not installed.
    """
    try:
        kind = fsspec.get_filesystem_class(scheme)
    except ImportError:
        if package := STORES.get(scheme):
            raise InputError(f"{scheme}:// needs {package}, which is missing: pip install {package}") from None
        raise InputError(f"{scheme}:// cannot be read: {known_implementations[scheme].get('err')}") from None
    logger = logging.getLogger(STORES.get(scheme, scheme))
    if logger.level == logging.NOTSET:  # nobody, and no variable such as GCSFS_DEBUG, asked for what it has to say
        logger.setLevel(logging.CRITICAL)  # what it logs as an error, with a traceback, it raises as well
    for name in (kind.protocol,) if isinstance(kind.protocol, str) else kind.protocol:
        fsspec.config.conf.setdefault(name, {}).setdefault("use_listings_cache", False)  # Orbax's as well
    with explained(f"{scheme}://"):
        return kind()


def check_reachable(address: str, what: str) -> None:
    """Asks the store once, so that what is wrong is known before any work.

    Raises:
      InputError: the bucket is not there, or the credentials are missing or do not allow to look into it.
    """
    scheme, _, key = address.partition("://")
    if scheme not in STORES:
        return
    bucket = f"{scheme}://{key.partition('/')[0]}"
    try:
        with explained(bucket):
            filesystem(scheme).info(bucket)
    except FileNotFoundError:
        raise InputError(f"{what}={address}: there is no bucket {bucket}: make it, or correct its name") from None
    except StoreError as error:
        raise InputError(f"{what}={address}: {error.strerror}") from None
