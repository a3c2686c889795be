"""PAWS-X (Yang et al. 2019): do two sentences with almost the same words mean the same? In seven languages.

    python -m experiments.train --config=configs/pawsx.py:es --workdir=runs/pawsx_es

A variant is a language: de, en, es (the default, from BETO), fr, ja, ko, zh; smoke is a small version for a CPU.
Training data is machine-translated; en trains on the original and is evaluated in all languages (zero-shot transfer).
They read the files as published: data/pawsx/es/translated_train.tsv, dev_2k.tsv and test_2k.tsv.

Published, test data: es 89.05 (BETO cased, Cañete et al. 2020). Not yet run here.
"""

from ml_collections import ConfigDict

from configs import classification, xnli

LANGUAGES = ("de", "en", "es", "fr", "ja", "ko", "zh")


def get_config(variant: str = "es") -> ConfigDict:
    if variant not in (*LANGUAGES, "smoke"):
        raise ValueError(f"unknown variant {variant!r}; known: {', '.join(LANGUAGES)}, smoke")
    language = "es" if variant == "smoke" else variant
    c = classification.get_config()
    c.start_from = xnli.BETO if language == "es" else xnli.MULTILINGUAL
    c.data.train = f"data/pawsx/{language}/{'train' if language == 'en' else 'translated_train'}.tsv"
    c.data.validation = f"data/pawsx/{language}/dev_2k.tsv"
    c.data.test = f"data/pawsx/{language}/test_2k.tsv"
    if language == "en":
        c.data.more_splits = tuple(f"{other}=data/pawsx/{other}/test_2k.tsv" for other in LANGUAGES if other != "en")
    c.data.text = ("sentence1", "sentence2")
    c.data.labels = ("0", "1")
    c.data.metrics = ("accuracy",)
    c.training.best_metric = "accuracy"
    if variant == "smoke":
        classification.smoke(c)
    return c


def get_expected(variant: str = "es") -> list[dict]:
    source = {"source": "Cañete et al. 2020 (BETO cased)", "hardware": "not told"}
    return [{"split": "test", "metric": "accuracy", "value": 0.8905, **source}] if variant == "es" else []
