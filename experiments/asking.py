"""Texts that a user types, or sends through a pipe, one a line."""

import sys
from collections.abc import Iterator


def asked(label: str) -> Iterator[str]:
    """The lines of standard input, of which empty ones are passed over; on a terminal the label asks for each.

    Raises:
      InputError: bytes that are not UTF-8.
    """
    from tx_jax.errors import InputError

    sys.stdin.reconfigure(encoding="utf-8", errors="strict")
    asks = sys.stdin.isatty()
    while True:
        if asks:
            print(label, end="", flush=True)
        try:
            line = sys.stdin.readline()
        except UnicodeDecodeError as error:
            raise InputError(f"standard input is not UTF-8 ({error.reason}): convert it with iconv") from None
        if not line:
            return
        if line.strip():
            yield line.rstrip("\r\n")
