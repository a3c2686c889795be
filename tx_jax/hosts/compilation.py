"""The compilation cache: programs kept on disk, so that a later start need not compile them."""

import os

import jax

FOLDER = "~/.cache/tx_jax/compilation"


def keep_programs(folder: str | os.PathLike = FOLDER) -> None:
    """Keeps compiled programs in this folder, unless the environment or the caller has already said where.

    Also those that compile in less than jax's limit of a second, of which a start has many.
    """
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", os.path.expanduser(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
