"""Object stores, as places where a path may lead: gs://bucket/folder, s3://bucket/folder, and for reading whatever
fsspec knows. Callers get a path from `tx_jax.files.path_of` and use it as they use a `pathlib.Path`.

What a run directory relies on has this meaning on a store, which has neither folders nor renames, but replaces an
object whole:

a file            one object; a reader sees the old content or the new
a folder          the objects whose names begin with its own; the last to be written is the one that says it is whole
a finished save   a checkpoint with its commit_success.txt, which is written after its manifest of checksums
LOCK              a lease: see `lease`
what is mapped    copied to this host first, checksummed: see `cache`
"""
