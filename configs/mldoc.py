"""MLDoc (Schwenk & Li 2018): the topic of news stories, one of four, in eight languages.

    python -m experiments.train --config=configs/mldoc.py:spanish --workdir=runs/mldoc_es

A variant is a language: english, french, german, italian, japanese, russian, spanish (the default, from BETO), chinese;
smoke is a small version for a CPU. They read the files that the dataset's scripts make from Reuters RCV1 and RCV2,
data/mldoc/spanish.train.1000, spanish.dev and spanish.test, with a label and a text on each line.

Published, test data: Spanish 95.60 (BETO cased) and 96.12 (BETO uncased, Cañete et al. 2020). Not yet run here.
"""

from ml_collections import ConfigDict

from configs import classification, xnli

LANGUAGES = ("english", "french", "german", "italian", "japanese", "russian", "spanish", "chinese")


def get_config(variant: str = "spanish") -> ConfigDict:
    if variant not in (*LANGUAGES, "smoke"):
        raise ValueError(f"unknown variant {variant!r}; known: {', '.join(LANGUAGES)}, smoke")
    language = "spanish" if variant == "smoke" else variant
    c = classification.get_config()
    c.start_from = xnli.BETO if language == "spanish" else xnli.MULTILINGUAL
    c.data.train = f"data/mldoc/{language}.train.1000"
    c.data.validation = f"data/mldoc/{language}.dev"
    c.data.test = f"data/mldoc/{language}.test"
    c.data.format = "tsv"
    c.data.columns = ("label", "text")
    c.data.labels = ("CCAT", "ECAT", "GCAT", "MCAT")
    c.data.metrics = ("accuracy",)
    c.data.sequence_length = 512
    c.training.best_metric = "accuracy"
    if variant == "smoke":
        classification.smoke(c)
    return c


def get_expected(variant: str = "spanish") -> list[dict]:
    source = {"source": "Cañete et al. 2020 (BETO cased)", "hardware": "not told"}
    return [{"split": "test", "metric": "accuracy", "value": 0.9560, **source}] if variant == "spanish" else []
