"""Folders as transformers and its users leave them: tokenizers of every kind with words added after training."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.golden import tokenizers
from tx_jax import text

PATH = Path(__file__).with_name("foreign.json")
GOLDEN = json.loads(tokenizers.PATH.read_text(encoding="utf-8"))
CLASSES = {
    "wordpiece": "BertTokenizer",
    "byte_bpe": "RobertaTokenizer",
    "byte_bpe, no prefix space": "RobertaTokenizer",
    "gpt2_bpe": "GPT2Tokenizer",
    "unigram": "XLMRobertaTokenizer",
    "camembert": "CamembertTokenizer",
    "t5": "T5Tokenizer",
}
MODEL_FILES = {"unigram": "sentencepiece.bpe.model", "camembert": "sentencepiece.bpe.model", "t5": "spiece.model"}
TEXTS = (
    "[E1] covid .",
    "a covid, (covid) [E1]covid[/E1]",
    "covidien xcovid COVID cov\u00edd",
    "vaccine vaccines xvaccine the vaccine",
    "the <e2>  x<e2>x",
    "zika\tzika\u200bzika",
    "El ni\u00f1o comi\u00f3.",
)
_PLAIN = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
# Content -> how it differs from what is usual for a word.
_ADDED = {
    "covid": {},
    "vaccine": {"single_word": True},
    "<e2>": {"lstrip": True, "rstrip": True, "normalized": False},
    "[E1]": {"special": True, "normalized": False},
    "[/E1]": {"special": True, "normalized": False},
    "zika": {},
}


def write(name: str, layout: str, folder: Path) -> int:
    """Write the tokenizer of `CLASSES` in one of `LAYOUTS`. Returns the id of its first added token."""
    base = tokenizers.rebuild(name, GOLDEN[name])
    base.save(folder)
    if layout != "tokenizer.json":
        (folder / "tokenizer.json").unlink()
    if layout != "tokenizer.json" and name in MODEL_FILES:
        (folder / MODEL_FILES[name]).write_bytes(tokenizers.model_file(GOLDEN[name]))
    change(folder / "tokenizer_config.json", tokenizer_class=CLASSES[name])
    LAYOUTS[layout](folder, base)
    return base.vocab_size


def change(path: Path, **values: Any) -> None:
    """Set keys of a JSON file; None removes one."""
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    kept = {key: value for key, value in (before | values).items() if value is not None}
    path.write_text(json.dumps(kept, ensure_ascii=False), encoding="utf-8")


def _tokens(base: text.Tokenizer) -> list[dict[str, Any]]:
    return [
        {"id": base.vocab_size + index, "content": content, **_PLAIN, **flags}
        for index, (content, flags) in enumerate(_ADDED.items())
    ]


def _in_definition(folder: Path, base: text.Tokenizer) -> None:
    """As transformers 5 saves it."""
    path = folder / "tokenizer.json"
    added = json.loads(path.read_text(encoding="utf-8"))["added_tokens"]
    change(path, added_tokens=[*added, *_tokens(base)])


def _in_decoder(folder: Path, base: text.Tokenizer) -> None:
    """As the Python classes of transformers 4.34 to 4.57 save it."""
    decoder = {str(token.pop("id")): token for token in _tokens(base)}
    change(
        folder / "tokenizer_config.json",
        added_tokens_decoder=decoder,
        additional_special_tokens=["[E1]", "[/E1]"],
    )


def _beside(folder: Path, base: text.Tokenizer) -> None:
    """As older versions save it: nothing is said of how a word is found."""
    change(folder / "added_tokens.json", **{token["content"]: token["id"] for token in _tokens(base)})
    change(folder / "special_tokens_map.json", additional_special_tokens=["[E1]", "[/E1]"])


LAYOUTS: dict[str, Callable[[Path, text.Tokenizer], None]] = {
    "tokenizer.json": _in_definition,
    "added_tokens_decoder": _in_decoder,
    "added_tokens.json": _beside,
}
