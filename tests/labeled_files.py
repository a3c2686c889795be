"""Small files with labels that can be learned, in the form that a configuration asks for, and a model to start from."""

import csv
import json
import pathlib

import numpy as np

from tests.models import small
from tx_jax import tree
from tx_jax.config import LabeledDataConfig
from tx_jax.convert import model_dir
from tx_jax.data.labeled import conll
from tx_jax.text.tokenizer import Tokenizer

WORDS = ("cat", "dog", "tree", "sun", "rain", "house", "road", "song")


def records(config: LabeledDataConfig, count: int, seed: int = 0, *, numbers: bool = False) -> list[dict]:
    """Of texts whose first word tells the label, which is a number where `numbers`."""
    rng = np.random.default_rng(seed)
    size = len(config.choices)
    labels = config.labels or tuple(map(str, range(size or 3)))
    found = []
    for i in range(count):
        number = i % len(labels)
        record = {name: " ".join(rng.choice(WORDS, rng.integers(2, 7))) for name in config.text + config.choices}
        if config.choices:
            record[config.choices[number]] = "sun sun sun"
        else:
            record[config.text[0]] = f"{WORDS[number]} {record[config.text[0]]}"
        found.append(record | {config.label: str(float(number)) if numbers else labels[number]})
    return found


def sentences(config: LabeledDataConfig, count: int, seed: int = 0) -> list[tuple[list[str], list[str]]]:
    """Words with labels, which the word tells."""
    rng = np.random.default_rng(seed)
    labels = config.labels or ("O", "B-PER", "I-PER")
    numbers = [rng.integers(0, len(labels), rng.integers(1, 10)) for _ in range(count)]
    return [([WORDS[i] for i in row], [labels[i] for i in row]) for row in numbers]


def squad(count: int, seed: int = 0) -> dict:
    """Articles of one paragraph with two questions, whose answer follows the word of the question."""
    rng = np.random.default_rng(seed)
    articles = []
    for i in range(count):
        words = rng.permutation(WORDS).tolist()
        context = " ".join(words)
        chosen = [(words[j], words[j + 1]) for j in (0, 4)]
        questions = [
            {
                "id": f"{i}-{word}",
                "question": f"{word}?",
                "answers": [{"text": answer, "answer_start": context.index(answer)}],
            }
            for word, answer in chosen
        ]
        articles.append({"title": f"{i}", "paragraphs": [{"context": context, "qas": questions}]})
    return {"version": "1.1", "data": articles}


def write(
    path: pathlib.Path, config: LabeledDataConfig, count: int = 24, seed: int = 0, *, numbers: bool = False
) -> None:
    """The records in the format that the ending of the name or the configuration says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.suffix[1:] if config.format == "auto" else config.format
    if kind == "json":
        path.write_text(json.dumps(squad(count, seed)))
        return
    if kind in ("conll", "conllu"):
        columns = conll.CONLLU if kind == "conllu" else config.columns or ("0", "1")
        lines = []
        for words, labels in sentences(config, count, seed):
            for number, values in enumerate(zip(words, labels, strict=True), start=1):
                given = dict(zip((*config.text, config.label), values, strict=True)) | {"id": str(number)}
                lines.append("\t".join(given.get(name, "_") for name in columns))
            lines.append("")
        path.write_text("\n".join(lines))
        return
    rows = records(config, count, seed, numbers=numbers)
    with path.open("w", newline="", encoding="utf-8") as file:
        if kind == "jsonl":
            file.writelines(json.dumps(row) + "\n" for row in rows)
            return
        columns = config.columns or tuple(rows[0])
        writer = csv.DictWriter(file, columns, restval="", delimiter="\t" if kind == "tsv" else ",")
        if not config.columns:
            writer.writeheader()
        writer.writerows(rows)


def write_model(path: pathlib.Path, tokenizer: Tokenizer, **changes) -> None:
    """A converted model of random parameters, one layer and 32 wide."""
    config = small.config(
        **{"vocab_size": tokenizer.vocab_size, "max_length": 64, "num_layers": 1, "heads": ("pooled",)} | changes
    )
    params = {name: np.asarray(x) for name, x in tree.flatten(small.params(config)).items()}
    model_dir.save(model_dir.Model(config, params, tokenizer, None), path)
