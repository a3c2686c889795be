"""Settings for every test: 8 virtual CPU devices would slow each process down, so only tests/multidevice asks for them."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"

import pytest


@pytest.fixture(scope="session", autouse=True)
def _strict_jax():
    import jax

    jax.config.update("jax_numpy_rank_promotion", "raise")
