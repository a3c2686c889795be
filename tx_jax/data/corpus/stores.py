"""One or more token stores treated as one: the corpora of a mixture, or a single corpus."""

import dataclasses
import hashlib
from pathlib import Path

from tx_jax import text
from tx_jax.data.corpus.token_store import TokenStore
from tx_jax.errors import InputError
from tx_jax.files import path_of


@dataclasses.dataclass(frozen=True)
class Stores:
    """One or more token stores that share a tokenizer.

    Attributes:
      stores: at least one.

    Raises InputError if the tokenizers differ.
    """

    stores: tuple[TokenStore, ...]

    def __post_init__(self):
        first, *others = self.stores
        for other in others:
            if other.meta["tokenizer_fingerprint"] != first.meta["tokenizer_fingerprint"]:
                raise InputError(
                    f"the token stores {first.path} and {other.path} were made with different tokenizers: prepare one "
                    f"of them again with --tokenizer={first.path}/tokenizer, or train one on both"
                )

    @classmethod
    def open(cls, paths: str | Path) -> "Stores":
        """Opens "one/store", or "several,of/them".

        Raises:
          InputError: no token store, an address that is not supported, or the tokenizers differ.
        """
        names = [name.strip() for name in str(paths).split(",")]
        if not all(names) or len(set(names)) < len(names):
            raise InputError(f"data.store={str(paths)!r}: expected different folders, comma-separated")
        return cls(tuple(TokenStore.open(path_of(name, "data.store")) for name in names))

    @property
    def vocab_size(self) -> int:
        return self.stores[0].vocab_size

    @property
    def fingerprint(self) -> str:
        """Identifies the contents: a single store's own fingerprint, else a digest of all fingerprints, in order."""
        prints = [store.fingerprint for store in self.stores]
        return prints[0] if len(prints) == 1 else hashlib.sha256(" ".join(prints).encode()).hexdigest()

    def tokenizer(self) -> text.Tokenizer:
        """The tokenizer that made all stores."""
        return self.stores[0].tokenizer()

    def verify(self) -> None:
        """Read every file and compare checksums. Raises UnusableStore, naming the damaged files."""
        for store in self.stores:
            store.verify()
