"""Writes pair_tokenizers.json: the ids and texts that AutoTokenizer of transformers gives for `pair_tokenizers`.

Run by hand, in an environment with transformers:

    python -m tests.golden.make_pair_tokenizers

It also saves each with tx_jax, and prints whether transformers gives the same ids for that. Written with transformers
5.24, tokenizers 0.23.3 and sentencepiece 0.2.3.
"""

import json
import pathlib
import tempfile

import transformers

from tests.golden import pair_tokenizers
from tx_jax import text


def main() -> None:
    transformers.logging.set_verbosity_error()
    expected = {}
    for name in pair_tokenizers.NAMES:
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as saved:
            pair_tokenizers.write(name, pathlib.Path(folder))
            theirs = transformers.AutoTokenizer.from_pretrained(folder)
            sources = list(pair_tokenizers.sources(name))
            ids = theirs(sources).input_ids
            targets = theirs(text_target=list(pair_tokenizers.TEXTS)).input_ids
            texts = [theirs.decode(row, skip_special_tokens=True).strip() for row in targets]
            expected[name] = {"sources": ids, "targets": targets, "texts": texts}
            text.load(folder).save(saved)
            config = pathlib.Path(folder) / "config.json"  # tells transformers the class, where the files do not
            (pathlib.Path(saved) / "config.json").write_bytes(config.read_bytes())
            again = transformers.AutoTokenizer.from_pretrained(saved)
            print(name, type(again).__name__, again(sources).input_ids == ids, sep=" | ")
    lines = json.dumps(expected, indent=1, ensure_ascii=False).replace("\n    ", "").replace("\n   ]", "]")
    pair_tokenizers.PATH.write_text(lines + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
