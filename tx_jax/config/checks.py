"""One line for every check of a configuration, with the value in the message."""

from tx_jax.errors import InputError


def require(condition: bool, message: str) -> None:
    if not condition:
        raise InputError(message)
