"""Texts, pairs and words as rows: an export of every kind of tokenizer and family, run in transformers on text.

    python -m tests.parity.rows            # the table; exit code 1 where ids or logits differ
    python -m tests.parity.rows --write    # also stores what transformers computed, for the test suite

transformers gets texts and settings that a user would give: a batch, padding=True, truncation=True. Needs torch and
transformers; what is computed here needs neither.
"""

import dataclasses
import json
import pathlib
import sys
import tempfile

import numpy as np

from tests.data.labeled.configs import labeled
from tests.golden import tokenizers
from tests.parity import cases, ours
from tx_jax.config import TransformerConfig
from tx_jax.convert import to_hf
from tx_jax.convert.heads import shapes_of
from tx_jax.convert.model_dir import Model, Source
from tx_jax.data.labeled import sequences, tagging
from tx_jax.text import bpe
from tx_jax.text.tokenizer import Tokenizer

SEED, LENGTH = 20_240, 16
GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "rows.json"
MAX_LOGITS = 1e-5  # |ours - theirs|, float32
# Of tokenizer_config.json, what decides how transformers reads tokenizer.json.
SETTINGS = ("tokenizer_class", "model_input_names", "model_max_length", "padding_side", "add_prefix_space", "pad_token")
TEXTS = ["A short one.", "", "naïve café, 数学, ΑΒΓ: of these and of more than all that a row has room for", "word"]
OTHERS = ["The list of the names.", "x", "of the of the of the of the of the of the of the", "Another word, and it."]
WORDS = ["A short one .", "naïve café", "word", "Α 数 ,"]  # of what is too long we make several rows
SEQUENCES, TOKENS = ("sequence_classification",), ("token_classification",)

# Name -> (model_type, tokenizer of tests/golden/tokenizers.py, configuration).
CASES: dict[str, tuple[str, str, TransformerConfig]] = {
    "GPT-2 sequences": ("gpt2", "gpt2_bpe", cases.changed(cases.GPT2, *SEQUENCES)),
    "GPT-2 sequences, added words": ("gpt2", "gpt2_bpe, extended", cases.changed(cases.GPT2, *SEQUENCES)),
    "GPT-2 tokens": ("gpt2", "gpt2_bpe", cases.changed(cases.GPT2, *TOKENS)),
    "GPT-2 shape, RoBERTa's tokens": ("gpt2", "byte_bpe", cases.changed(cases.GPT2, *SEQUENCES)),
    "BERT sequences": ("bert", "wordpiece", cases.changed(cases.BERT, *SEQUENCES)),
    "BERT tokens": ("bert", "wordpiece", cases.changed(cases.BERT, *TOKENS)),
    "BERT shape, RoBERTa's tokens": ("bert", "byte_bpe", cases.changed(cases.BERT, *SEQUENCES)),
    "BERT shape, T5's tokens": ("bert", "t5", cases.changed(cases.BERT, *SEQUENCES)),
    "DistilBERT sequences": ("distilbert", "wordpiece", cases.changed(cases.DISTILBERT, *SEQUENCES)),
    "DistilBERT tokens": ("distilbert", "wordpiece", cases.changed(cases.DISTILBERT, *TOKENS)),
    "ELECTRA sequences": ("electra", "wordpiece", cases.changed(cases.ELECTRA, *SEQUENCES)),
    "RoBERTa sequences": ("roberta", "byte_bpe, no prefix space", cases.changed(cases.ROBERTA, *SEQUENCES)),
    "RoBERTa tokens": ("roberta", "byte_bpe", cases.changed(cases.ROBERTA, *TOKENS)),
    "RoBERTa tokens, no prefix space": (
        "roberta",
        "byte_bpe, no prefix space",
        cases.changed(cases.ROBERTA, *TOKENS),
    ),
    "RoBERTa shape, WordPiece": ("roberta", "wordpiece", cases.changed(cases.ROBERTA, *SEQUENCES)),
    "XLM-R sequences": ("xlm-roberta", "unigram", cases.changed(cases.ROBERTA, *SEQUENCES)),
    "XLM-R shape, BPE tokens": ("xlm-roberta", "sentencepiece_bpe", cases.changed(cases.ROBERTA, *TOKENS)),
    "CamemBERT sequences": ("camembert", "camembert", cases.changed(cases.ROBERTA, *SEQUENCES)),
    "CamemBERT tokens": ("camembert", "camembert", cases.changed(cases.ROBERTA, *TOKENS)),
    "DeBERTa sequences": ("deberta", "byte_bpe, [CLS]", cases.changed(cases.DEBERTA, *SEQUENCES)),
    "ModernBERT sequences": ("modernbert", "byte_bpe, [CLS]", cases.CASES["ModernBERT sequences, mean"][1]),
    "ModernBERT tokens": ("modernbert", "byte_bpe, [CLS]", cases.CASES["ModernBERT tokens"][1]),
    "DeBERTa-v3 sequences": ("deberta-v2", "deberta_v2", cases.CASES["DeBERTa-v3 sequences"][1]),
    "DeBERTa-v2 tokens": ("deberta-v2", "deberta_v2, options", cases.CASES["DeBERTa-v2 tokens"][1]),
}


def model_of(name: str) -> Model:
    """The model of a case, its weights drawn."""
    model_type, kind, config = CASES[name]
    tokenizer = tokenizer_of(kind)
    config = dataclasses.replace(config, vocab_size=tokenizer.vocab_size, num_layers=config.global_every)
    params = cases.draw_params(shapes_of(config), SEED)
    return Model(config, params, tokenizer, Source("rows", None, model_type, "float32", {}))


def tokenizer_of(kind: str) -> Tokenizer:
    stored = json.loads(tokenizers.PATH.read_text(encoding="utf-8"))
    if kind == "byte_bpe, [CLS]":  # DeBERTa's and ModernBERT's: GPT-2's bytes and BERT's special tokens
        names = {"<s>": "[CLS]", "</s>": "[SEP]", "<pad>": "[PAD]", "<unk>": "[UNK]", "<mask>": "[MASK]"}
        vocabulary = [names.get(token, token) for token in stored["byte_bpe"]["vocabulary"]]
        roles = {role: names[name] for role, name in bpe.ROBERTA.items()}
        merges = [tuple(pair) for pair in stored["byte_bpe"]["merges"]]
        return bpe.ByteLevelBPE.from_merges(vocabulary, merges, names=roles)
    plain = kind.removesuffix(", extended")
    tokenizer = tokenizers.rebuild(plain, stored[plain])
    return tokenizer if plain == kind else tokenizer.with_tokens(["row", "naïve"])


def inputs_of(model: Model) -> dict[str, tuple[list, ...]]:
    """What transformers' tokenizer is given for each kind of row: "texts" and "pairs", or "words"."""
    if "token_classification" in model.config.heads:
        return {"words": ([text.split() for text in WORDS],)}
    return {"texts": (TEXTS,), "pairs": (TEXTS, OTHERS)}


def settings_of(folder: pathlib.Path) -> dict[str, object]:
    values = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    return {key: values.get(key) for key in SETTINGS}


def compute(model: Model) -> dict[str, tuple[list[list[int]], np.ndarray]]:
    """Of each kind the rows and their logits here: [B, labels], or [tokens of all rows, labels]."""
    batches = {kind: batch_of(model, kind, parts) for kind, parts in inputs_of(model).items()}
    whole = {key: np.concatenate([batch[key] for batch in batches.values()]) for key in ("tokens", "segments", "valid")}
    logits = ours.logits(model.config, model.params, whole)
    found, start = {}, 0
    for kind, batch in batches.items():
        valid = batch["valid"]
        part, start = logits[start : start + len(valid)], start + len(valid)
        rows = [row[mask].tolist() for row, mask in zip(batch["tokens"], valid, strict=True)]
        found[kind] = rows, part[valid] if kind == "words" else part
    return found


def batch_of(model: Model, kind: str, parts: tuple[list, ...]) -> dict[str, np.ndarray]:
    """The rows of all examples, as a task makes them."""
    data = labeled(text=("0", "1")[: len(parts)], sequence_length=LENGTH)
    records = [{str(number): text for number, text in enumerate(row)} for row in zip(*parts, strict=True)]
    if kind == "words":
        table = tagging.table(records, data, model.tokenizer, labels=None)
    else:
        segments = model.config.num_segments > 1
        table = sequences.table(records, data, model.tokenizer, segments=segments, targets={})
    batch = dict(table.rows(np.arange(len(table))))
    return {"segments": np.zeros_like(batch["tokens"])} | batch


def compare(name: str, folder: pathlib.Path) -> tuple[dict[str, dict], list[str]]:
    """What transformers computes, by kind of row; and how it differs from what is computed here."""
    import torch
    import transformers

    from tests.parity import theirs

    model = model_of(name)
    written = theirs.load(folder, to_hf.write(model, folder, length=LENGTH))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    found, wrong = {"settings": settings_of(folder)}, []
    here = compute(model)
    for kind, parts in inputs_of(model).items():
        inputs = tokenizer(
            *parts, padding=True, truncation=True, is_split_into_words=kind == "words", return_tensors="pt"
        )
        with torch.no_grad():
            logits = written(**inputs).logits
        valid = inputs["attention_mask"].bool()
        logits = logits[valid].numpy() if kind == "words" else logits.numpy()
        rows = [row[mask].tolist() for row, mask in zip(inputs["input_ids"], valid, strict=True)]
        expected_rows, expected = here[kind]
        found[kind] = {"rows": rows, "logits": [[round(float(x), 6) for x in row] for row in logits]}
        if rows != expected_rows:
            wrong.append(f"{kind}: {sum(a != b for a, b in zip(rows, expected_rows, strict=True))} rows differ")
        elif (difference := float(np.abs(logits - expected).max())) > MAX_LOGITS:
            wrong.append(f"{kind}: logits differ by {difference:.1e}")
    return found, wrong


def main() -> None:
    import jax

    jax.config.update("jax_platforms", "cpu")
    stored, failed = {}, []
    for name in CASES:
        with tempfile.TemporaryDirectory() as folder:
            stored[name], wrong = compare(name, pathlib.Path(folder) / "model")
        print(f"{name:36s} {'; '.join(wrong) or 'same rows, same logits'}", flush=True)
        failed += [name] if wrong else []
    if "--write" in sys.argv:
        GOLDEN.write_text(json.dumps(stored, separators=(",", ":")) + "\n", encoding="utf-8")
    sys.exit(f"differ: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
