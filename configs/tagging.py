"""Labels for words: parts of speech, names. Your own sentences in two columns, word and label, are all you need.

    python -m experiments.train --config=configs/tagging.py --config.data.train=mine.conll --workdir=runs/tags
    python -m experiments.train --config=configs/tagging.py:ud_pos --workdir=runs/pos

Other columns: --config.data.text="('3',)" --config.data.label=5, by number or by the names in --config.data.columns.
Comments, as in GermEval: --config.data.comment=#, for lines before a sentence that begin with # and white space. JSON
lines with a list of words and a list of labels work too. Labels such as B-PER, I-PER, O are scored as whole entities,
and entity F1 decides which checkpoint is best; other labels are scored by accuracy. To choose other metrics:
--config.data.metrics="('accuracy',)".

Variants read the files as published; those of 2002 and 2003 must be converted to UTF-8 first:

    conll2003                  names in English, data/conll2003/eng.train (Tjong Kim Sang and De Meulder 2003)
    conll2002_es, conll2002_nl names in Spanish and Dutch, data/conll2002/esp.train (Tjong Kim Sang 2002)
    ud_pos, ud_pos_en          parts of speech, data/ud/es_gsd-ud-train.conllu (Universal Dependencies)
    ud_pos_minilm              the same from all-MiniLM-L6-v2, on a part, in minutes on a CPU
    smoke                      a small ud_pos for a CPU

Batch size 32, learning rate 5e-5 and 3 epochs are among those that the paper recommends (Devlin et al. 2018, A.3); the
first piece of a word is labeled (section 5.3).

Published, test data: CoNLL-2003 entity F1 92.4 (paper, table 7; BERT base); CoNLL-2002 in Spanish 88.4, parts of speech
of Spanish 99.0 (Cañete et al. 2020; BETO). Not yet run here.
"""

from ml_collections import ConfigDict

from configs import bert_base, classification


def get_config(variant: str = "") -> ConfigDict:
    c = classification.get_config()
    c.task = "tagging"
    c.model.heads = ("token_classification",)
    c.optimizer.learning_rate = 5e-5
    if variant and variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}; known: {', '.join(VARIANTS)}")
    VARIANTS.get(variant, two_columns)(c)
    return c


def get_expected(variant: str = "") -> list[dict]:
    beto = {"source": "Cañete et al. 2020 (BETO)", "hardware": "not told"}
    table = {
        "conll2003": (
            "entity_f1",
            0.924,
            {"source": "Devlin et al. 2018, table 7 (BERT base)", "hardware": "Cloud TPU"},
        ),
        "conll2002_es": ("entity_f1", 0.884, beto),
        "ud_pos": ("accuracy", 0.990, beto),
    }
    if variant == "ud_pos_minilm":
        held_out = bert_base.measured({"accuracy": {"value": 0.8441, "deviation": 0.0063}})
        return [*held_out, *bert_base.measured({"accuracy": {"value": 0.8401, "deviation": 0.0021}}, "test")]
    if variant not in table:
        return []
    metric, value, source = table[variant]
    return [{"split": "test", "metric": metric, "value": value, **source}]


def two_columns(c: ConfigDict) -> None:
    c.data.train = "mine.conll"
    c.data.text = ("0",)
    c.data.label = "1"
    c.data.metrics = ()  # chosen by the labels: entity metrics for B-PER, I-PER, O, else accuracy


def conll2003(c: ConfigDict) -> None:
    c.start_from = "google-bert/bert-base-cased"
    c.data.columns = ("word", "pos", "chunk", "ner")
    entities(c, "data/conll2003/eng")


def conll2002_es(c: ConfigDict) -> None:
    c.start_from = "dccuchile/bert-base-spanish-wwm-cased"
    c.data.columns = ("word", "ner")
    entities(c, "data/conll2002/esp")


def conll2002_nl(c: ConfigDict) -> None:
    c.start_from = "google-bert/bert-base-multilingual-cased"
    c.data.columns = ("word", "pos", "ner")
    entities(c, "data/conll2002/ned")


def entities(c: ConfigDict, prefix: str) -> None:
    """The data of a shared task on names."""
    c.data.train, c.data.validation, c.data.test = (f"{prefix}.{part}" for part in ("train", "testa", "testb"))
    c.data.format = "conll"
    c.data.text = ("word",)
    c.data.label = "ner"
    c.data.metrics = ("entity_f1", "entity_precision", "entity_recall", "accuracy")


def ud_pos(c: ConfigDict) -> None:
    c.start_from = "dccuchile/bert-base-spanish-wwm-cased"
    treebank(c, "data/ud/es_gsd-ud")


def ud_pos_en(c: ConfigDict) -> None:
    c.start_from = "google-bert/bert-base-cased"
    treebank(c, "data/ud/en_ewt-ud")


def treebank(c: ConfigDict, prefix: str) -> None:
    """Parts of speech from a Universal Dependencies treebank."""
    c.data.train, c.data.validation, c.data.test = (f"{prefix}-{part}.conllu" for part in ("train", "dev", "test"))
    c.data.text = ("form",)
    c.data.label = "upos"
    c.data.metrics = ()  # chosen by the labels, as above


def ud_pos_minilm(c: ConfigDict) -> None:
    """On the 1,400 sentences of the development data, a tenth of them held out; English weights, Spanish words.

    The recipe's learning rate is low for so few steps: after 82 of 245, 75.2% of the held-out words are right, with
    --config.optimizer.learning_rate=5e-4 87.7% (one seed).
    """
    treebank(c, "data/ud_spanish_gsd/")
    c.start_from = "sentence-transformers/all-MiniLM-L6-v2"
    c.model.dtype = "float32"
    c.data.train, c.data.validation = "data/ud_spanish_gsd/dev.conllu", ""
    c.data.test = "data/ud_spanish_gsd/test.conllu"
    c.data.sequence_length = 96
    c.training.batch_size = 16


def smoke(c: ConfigDict) -> None:
    ud_pos(c)
    classification.smoke(c)


VARIANTS = {
    "conll2003": conll2003,
    "conll2002_es": conll2002_es,
    "conll2002_nl": conll2002_nl,
    "ud_pos": ud_pos,
    "ud_pos_en": ud_pos_en,
    "ud_pos_minilm": ud_pos_minilm,
    "smoke": smoke,
}
