"""What further pretraining taught a model of its domain, on held-out text: before and after.

    python -m experiments.domain_report --before=models/bert_covid --after=runs/covid --original=models/bert \\
        --words=covid,coronavirus --store=data/covid --out=runs/covid/report

Three figures: how likely the masked LM finds each word where it stands, masked; the perplexity of the masked LM on
held-out documents, for --before and --after, which share a tokenizer; and the nearest neighbours of each word among the
input embeddings. --out gets report.json and words.png.
"""

import json
import math
from pathlib import Path

from absl import flags

from experiments import command_line

BEFORE = flags.DEFINE_string("before", None, "The model that the training started from.")
AFTER = flags.DEFINE_string("after", None, "The run directory of the training.")
ORIGINAL = flags.DEFINE_string("original", None, "The model without the new words, if it is to be compared as well.")
WORDS = flags.DEFINE_string("words", "", "Words with commas between them, or a file with one a line.")
STORE = flags.DEFINE_string("store", None, "A token store of the models' tokenizer; by default that of the training.")
OCCURRENCES = flags.DEFINE_integer("occurrences", 100, "Of each word, at most.", lower_bound=1)
OUT = flags.DEFINE_string("out", None, "A folder for the results.")


def main(argv: list[str]) -> int:
    if not BEFORE.value or not AFTER.value or not OUT.value:
        command_line.fail("needed: --before, --after and --out; see --help")
    import numpy as np
    from rich.table import Table

    from experiments.display import make_console
    from tx_jax.config.further import read_words
    from tx_jax.data.corpus import TokenStore
    from tx_jax.files import write_atomically
    from tx_jax.tasks.registry import open_task
    from tx_jax.training import domain, trained
    from tx_jax.training.evaluate import held_out

    run = trained.load(Path(AFTER.value))
    models = {"before": domain.as_trained(BEFORE.value), "after": run}
    if ORIGINAL.value:
        models = {"original": domain.as_trained(ORIGINAL.value)} | models
    store = STORE.value or run.config.data.store
    words = read_words(WORDS.value)
    found = domain.occurrences(TokenStore.open(store).split("validation"), words, run.tokenizer, OCCURRENCES.value)
    counts = {word: sum(one.word == word for one in found) for word in words}
    report = {"occurrences": counts, "models": {}}
    for name, model in models.items():
        probabilities = domain.word_probabilities(model, found)
        of_words = {
            word: float(np.mean([p for p, one in zip(probabilities, found, strict=True) if one.word == word]))
            for word in words
            if counts[word]
        }
        report["models"][name] = {"word_probability": of_words}
        if name != "original":  # whose tokens are others
            task = open_task(run.config, store, model.tokenizer)
            batches = task.batches("validation", batch_size=run.config.training.eval_batch_size, repeat=False)
            loss = model.evaluate(task, held_out(batches, 0))["masked_lm_loss"]
            report["models"][name] |= {"masked_lm_loss": loss, "perplexity": math.exp(loss)}
            report["models"][name]["neighbours"] = domain.neighbours(model, words)
    out = Path(OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "report.json", json.dumps(report, indent=2, ensure_ascii=False) + "\n")

    table = Table("held-out text of the domain", *models, title="Before and after")
    for word in words:
        values = [report["models"][name]["word_probability"].get(word) for name in models]
        shown = ["-" if value is None else f"{value:.2%}" for value in values]
        table.add_row(f"probability of {word}, masked ({counts[word]} times)", *shown)
    perplexities = [report["models"][name].get("perplexity") for name in models]
    table.add_row("perplexity of masked tokens", *("-" if p is None else f"{p:.1f}" for p in perplexities))
    for word in words:
        near = [report["models"][name].get("neighbours", {}).get(word, []) for name in models]
        table.add_row(f"nearest to {word}", *(", ".join(token for token, _ in tokens) for tokens in near))
    make_console().print(table)
    if any(counts.values()):
        shown = {name: values["word_probability"] for name, values in report["models"].items()}
        domain.draw(shown, out / "words.png")
    return 0


if __name__ == "__main__":
    command_line.run(main)
