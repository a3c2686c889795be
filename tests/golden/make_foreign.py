"""Writes foreign.json: the ids that AutoTokenizer of transformers gives for the folders of `foreign`.

Run by hand, in an environment with transformers:

    python -m tests.golden.make_foreign

It also saves each with tx_jax, and prints whether transformers gives the same ids for that. Written with transformers
5.24 and tokenizers 0.23.3.
"""

import json
import pathlib
import tempfile

import transformers

from tests.golden import foreign
from tx_jax import text


def ids(folder: str) -> list[list[int]]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return [tokenizer.encode(line, add_special_tokens=False) for line in foreign.TEXTS]


def main() -> None:
    transformers.logging.set_verbosity_error()
    expected: dict[str, dict[str, list[list[int]]]] = {}
    for name in foreign.CLASSES:
        for layout in foreign.LAYOUTS:
            with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as saved:
                foreign.write(name, layout, pathlib.Path(folder))
                found = expected.setdefault(name, {})[layout] = ids(folder)
                ours = text.load(folder)
                ours.save(saved)
                print(name, layout, ours.encode_batch(foreign.TEXTS) == found, ids(saved) == found, sep=" | ")
    lines = json.dumps(expected, indent=1).replace("\n    ", "").replace("\n   ]", "]")
    foreign.PATH.write_text(lines + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
