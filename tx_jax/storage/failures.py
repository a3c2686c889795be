"""What the libraries of object stores raise, as the OSErrors that reading and writing a file raises."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from tx_jax.errors import InputError

# Modules whose exceptions mean that the store, the network or the credentials failed, not the program.
_LIBRARIES = ("aiohttp", "botocore", "gcsfs", "google", "requests", "urllib3", "aiobotocore", "s3fs", "fsspec")
_NO_CREDENTIALS = ("DefaultCredentialsError", "RefreshError", "NoCredentialsError", "PartialCredentialsError")
_DENIED = re.compile(r"forbidden|access denied|does not have .* access|permission|anonymous caller|\b40[13]\b", re.I)
_LOG_IN = {"gs": "gcloud auth application-default login", "s3": "aws configure"}


class StoreError(OSError):
    """A store cannot be reached, or failed although it was asked several times. The same call may work later."""


class StoreFailed(InputError):
    """A store failed in the middle of a run. What was saved is intact, and the same command continues."""


class AccessDenied(StoreError, PermissionError):
    """The credentials are missing, have expired, or do not allow it."""


@contextmanager
def explained(address: str) -> Iterator[None]:
    """Turns the errors of a store's library into OSErrors with the address as their file name.

    Raises:
      FileNotFoundError, FileExistsError: as for files.
      AccessDenied: no credentials, or these do not allow it.
      StoreError: anything else that is the store's or the network's fault.
    """
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, "there is no such object or folder", address) from None
    except FileExistsError:
        raise FileExistsError(errno.EEXIST, "it exists", address) from None
    except (StoreError, InputError):
        raise
    except (OSError, ValueError, RuntimeError) as error:
        raise _explained(error, address) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _LIBRARIES:
            raise
        raise _explained(error, address) from error


def _explained(error: Exception, address: str) -> OSError:
    name, text = type(error).__name__, " ".join(str(error).split())[:300]
    code = getattr(error, "code", None) or getattr(error, "status", None)
    log_in = _LOG_IN.get(address.partition("://")[0], "give the library its credentials")
    if name in _NO_CREDENTIALS:
        return AccessDenied(errno.EACCES, f"no usable credentials ({text}): {log_in}", address)
    if str(code) in ("401", "403") or (isinstance(error, PermissionError) or _DENIED.search(text)):
        return AccessDenied(errno.EACCES, f"no permission ({text}): ask its owner, or {log_in}", address)
    return StoreError(errno.EIO, f"the store does not do it ({name}: {text})", address)
