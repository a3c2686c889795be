"""Writes tokenizers.json: small tokenizers of every kind, and the ids that transformers gives from the folders we save.

Run by hand, in an environment that has this package's requirements (jax is not needed) and also transformers:

    python -m tests.golden.make_tokenizers          # compares this package with transformers and prints a table
    python -m tests.golden.make_tokenizers --write  # also trains anew and rewrites tests/golden/tokenizers.json

Both ways are compared: the folders we save, loaded by AutoTokenizer and by the class of the model; and the folders that
transformers saves, loaded by us. Written with transformers 5.23, tokenizers 0.23.3 and sentencepiece 0.2.3.
"""

import json
import logging
import pathlib
import sys
import tempfile

import transformers

from tests.golden import multilingual, tokenizers
from tx_jax import text
from tx_jax.text import bpe

CLASSES = {
    "wordpiece": "BertTokenizer",
    "byte_bpe": "RobertaTokenizer",
    "byte_bpe, no prefix space": "RobertaTokenizer",
    "gpt2_bpe": "GPT2Tokenizer",
    "unigram": "XLMRobertaTokenizer",
    "unigram, lower case": "XLMRobertaTokenizer",
    "camembert": "CamembertTokenizer",
    "t5": "T5Tokenizer",
}
# Classes that read a SentencePiece model file as we do. DebertaV2Tokenizer ignores the model's normalization.
MODEL_FILES = ("unigram", "unigram, lower case", "camembert", "t5")


def reference(tokenizer: transformers.PreTrainedTokenizerBase) -> dict:
    """Ids and spans of the texts of `multilingual`."""
    mask = tokenizer.mask_token
    options = {"add_special_tokens": False, "return_offsets_mapping": True}
    offsets = tokenizer(list(multilingual.TEXTS), **options)["offset_mapping"]
    return {
        "ids": [tokenizer.encode(line, add_special_tokens=False) for line in multilingual.TEXTS],
        "spans": [
            [list(stripped(line, *span)) for span in encoded]
            for line, encoded in zip(multilingual.TEXTS, offsets, strict=True)
        ],
        "single": tokenizer.encode(multilingual.PAIR[0]),
        "pair": tokenizer.encode(*multilingual.PAIR),
        "masked": tokenizer.encode(multilingual.MASKED.format(mask), add_special_tokens=False) if mask else None,
        "specials": {
            role: getattr(tokenizer, f"{role}_token_id") for role in ("pad", "unk", "cls", "sep", "mask", "bos", "eos")
        },
    }


def stripped(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without white space around, which some classes leave there and some not."""
    left = len(text[start:end]) - len(text[start:end].lstrip())
    start = min(start + left, end)
    return start, max(start, start + len(text[start:end].rstrip()))


def words(tokenizer: transformers.PreTrainedTokenizerBase) -> list[list[list[int]]]:
    """Ids of the texts as words at white space: of each text, of each word."""
    result = []
    for line in multilingual.TEXTS:
        encoding = tokenizer(line.split(), is_split_into_words=True, add_special_tokens=False)
        pieces = list(zip(encoding.word_ids(), encoding["input_ids"], strict=True))
        result.append([[index for at, index in pieces if at == word] for word in range(len(line.split()))])
    return result


def compare(name: str, stored: dict) -> dict:
    """Prints one line, and returns what AutoTokenizer gives."""
    ours = tokenizers.rebuild(name, stored)
    with tempfile.TemporaryDirectory() as folder:
        saved, resaved, model = (pathlib.Path(folder) / part for part in ("saved", "resaved", "model"))
        ours.save(saved)
        auto = transformers.AutoTokenizer.from_pretrained(saved)
        expected = reference(auto)
        checks = {type(auto).__name__: ours.encode_batch(multilingual.TEXTS) == expected["ids"]}
        prefix = {"add_prefix_space": True} if isinstance(ours, bpe.ByteLevelBPE) else {}  # else it refuses words
        expected["words"] = words(transformers.AutoTokenizer.from_pretrained(saved, **prefix))
        checks["words"] = [ours.encode_words(line.split()) for line in multilingual.TEXTS] == expected["words"]
        checks["vocab_size"] = len(auto) == ours.vocab_size
        if name in CLASSES:
            of_class = getattr(transformers, CLASSES[name]).from_pretrained(saved)
            checks[f"as {CLASSES[name]}"] = reference(of_class) == {
                key: expected[key] for key in expected if key != "words"
            }
        auto.save_pretrained(resaved)
        checks["saved by it"] = text.load(resaved).fingerprint == ours.fingerprint
        if name.startswith(("byte", "gpt2")):
            (saved / "tokenizer.json").unlink()
            checks["vocab.json"] = text.load(saved).fingerprint == ours.fingerprint
            of_class = getattr(transformers, CLASSES[name]).from_pretrained(saved)
            checks["vocab.json by it"] = reference(of_class)["ids"] == expected["ids"]
        if name in MODEL_FILES:
            model.mkdir()
            (model / ("spiece.model" if name == "t5" else "sentencepiece.bpe.model")).write_bytes(
                tokenizers.model_file(stored)
            )
            (model / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": CLASSES[name]}))
            of_class = getattr(transformers, CLASSES[name]).from_pretrained(model)
            checks["model file"] = text.load(model).encode_batch(multilingual.TEXTS) == reference(of_class)["ids"]
    expected["added"] = added(ours, checks)
    print(f"{name:26s} " + "  ".join(f"{key}: {'same' if same else 'DIFFERENT'}" for key, same in checks.items()))
    return expected


def added(ours: text.Tokenizer, checks: dict[str, bool]) -> list[list[int]]:
    """Ids of the texts with added words, by what AutoTokenizer loads from a tokenizer that got them."""
    extended = tokenizers.extend(ours)
    with tempfile.TemporaryDirectory() as folder:
        extended.save(folder)
        auto = transformers.AutoTokenizer.from_pretrained(folder)
        auto.save_pretrained(f"{folder}/resaved")
        resaved = text.load(f"{folder}/resaved")
    ids = [auto.encode(line, add_special_tokens=False) for line in multilingual.ADDED_TEXTS]
    others = [auto.encode(line, add_special_tokens=False) for line in multilingual.TEXTS]
    checks["added words"] = ids == extended.encode_batch(multilingual.ADDED_TEXTS)
    known = [x for x in ids if ours.unk_id not in x]  # ours may put a space before <unk>
    checks["added, decoded"] = [auto.decode(x).removeprefix(" ") for x in known] == list(map(extended.decode, known))
    checks["added, others"] = others == ours.encode_batch(multilingual.TEXTS)
    checks["added, size"] = len(auto) == extended.vocab_size
    checks["added, saved by it"] = resaved.fingerprint == extended.fingerprint
    return ids


def main() -> None:
    transformers.logging.set_verbosity_error()
    logging.disable(logging.WARNING)
    is_writing = sys.argv[1:] == ["--write"]
    stored = {} if is_writing else json.loads(tokenizers.PATH.read_text(encoding="utf-8"))
    for name in tokenizers.NAMES:
        entry = tokenizers.train(name) if is_writing else stored[name]
        stored[name] = entry | {"expected": compare(name, entry)}
    if is_writing:
        tokenizers.PATH.write_text(
            json.dumps(stored, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
