"""N-gram models of bytes on a token store's own split: what a language model's bits a byte compare with.

    python -m benchmarks.ngrams --store=data/shakespeare

Interpolated Kneser-Ney (Kneser & Ney 1995; Chen & Goodman 1999, section 2.7) of orders 1 to 6, with one discount an
order, n1 / (n1 + 2 n2). Every byte of a held-out document is predicted, and its end, from what precedes it in the
document; the sum is divided by the bytes, as a causal LM's `bits_per_byte` is. Runs on one core within minutes.
"""

import itertools
import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from absl import flags

from benchmarks import measure
from experiments import command_line

STORE = flags.DEFINE_string("store", None, "The token store.")
ORDERS = flags.DEFINE_integer("orders", 6, "The highest order.", lower_bound=1)
JSON = flags.DEFINE_string("json", None, "Where to write the result.")
END = 256  # the symbol behind the last byte of a document
BEGIN = 257  # those before the first
SYMBOLS = 257  # that may come next


def main(argv: list[str]) -> None:
    if not STORE.value:
        command_line.fail("needed: --store")
    train, held_out = (list(documents(STORE.value, split)) for split in ("train", "validation"))
    sizes = {"train": sum(map(len, train)), "validation": sum(map(len, held_out))}
    print(f"{STORE.value}: {sizes['train']:,} bytes to count, {sizes['validation']:,} held out, line ends included")
    result = {}
    for order in range(1, ORDERS.value + 1):
        began = time.perf_counter()
        model = KneserNey(order, train)
        result[order] = bits_per_byte(model, held_out)
        print(f"order {order}: {result[order]:.3f} bits a byte ({time.perf_counter() - began:.0f} s)", flush=True)
    measure.write_json(JSON.value, {"store": STORE.value, **sizes, "bits_per_byte": result})


def documents(store: str, split: str) -> Iterator[bytes]:
    """The text of each document."""
    from tx_jax.data.corpus.token_store import TokenStore

    opened = TokenStore.open(store)
    part, tokenizer = opened.split(split), opened.tokenizer()
    bounds = part.sentence_offsets[part.document_offsets]
    for first, last in itertools.pairwise(bounds):
        yield tokenizer.decode(part.read(np.array([first]), np.array([last])).tolist()).encode()


class KneserNey:
    """p(w | h) = max(c(h w) - D, 0) / c(h) + D n(h .) / c(h) p(w | h without its first symbol).

    Below the highest order, counts are of the different symbols before a sequence. The lowest is interpolated with the
    uniform distribution.
    """

    def __init__(self, order: int, texts: Sequence[bytes]):
        self.order = order
        counts: list[dict[tuple[int, ...], Counter]] = [defaultdict(Counter) for _ in range(order)]
        for text in texts:
            symbols = (BEGIN,) * (order - 1) + tuple(text) + (END,)
            for i in range(order - 1, len(symbols)):
                counts[-1][symbols[i - order + 1 : i]][symbols[i]] += 1
        for lower in range(order - 2, -1, -1):
            for context, found in counts[lower + 1].items():
                for symbol in found:
                    counts[lower][context[1:]][symbol] += 1
        self.tables = [{context: (found, sum(found.values())) for context, found in table.items()} for table in counts]
        self.discounts = [_discount(table) for table in counts]

    def probability(self, context: tuple[int, ...], symbol: int) -> float:
        p = 1 / SYMBOLS
        for table, discount, size in zip(self.tables, self.discounts, range(self.order), strict=True):
            if (found := table.get(context[len(context) - size :])) is not None:
                counts, total = found
                p = (max(counts.get(symbol, 0) - discount, 0) + discount * len(counts) * p) / total
        return p


def _discount(table: dict[tuple[int, ...], Counter]) -> float:
    seen = Counter(count for found in table.values() for count in found.values() if count <= 2)
    return seen[1] / (seen[1] + 2 * seen[2]) if seen[1] else 0.5


def bits_per_byte(model: KneserNey, texts: Sequence[bytes]) -> float:
    bits = 0.0
    for text in texts:
        symbols = (BEGIN,) * (model.order - 1) + tuple(text) + (END,)
        for i in range(model.order - 1, len(symbols)):
            bits -= math.log2(model.probability(symbols[i - model.order + 1 : i], symbols[i]))
    return bits / sum(map(len, texts))


if __name__ == "__main__":
    command_line.run(main)
