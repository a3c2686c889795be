"""Reports on held-out text what further pretraining taught a model about its domain, before and after.

    python -m experiments.domain_report --before=models/bert_covid --after=runs/covid --original=models/bert \\
        --words=covid,coronavirus --store=data/covid --out=runs/covid/report

Three figures: the probability that the masked LM gives each word at its masked positions; the masked LM's perplexity
on held-out documents, for --before and --after, which share a tokenizer; and each word's nearest neighbors among the
input embeddings. report.json and words.png are written to --out.

With --downstream=FOLDER it also compares the results of fine-tuning each model. FOLDER/original, FOLDER/before and
FOLDER/after, as many as exist, are --workdir of experiments.train with --seeds, started from the model of that name.
"""

import math
from typing import Any

from absl import flags

from experiments import command_line

BEFORE = flags.DEFINE_string("before", None, "The model that the training started from.")
AFTER = flags.DEFINE_string("after", None, "The run directory of the training.")
ORIGINAL = flags.DEFINE_string("original", None, "Optional: the model without the new words, to compare with.")
WORDS = flags.DEFINE_string("words", "", "Comma-separated words, or a file with one word per line.")
STORE = flags.DEFINE_string("store", None, "A token store made with the models' tokenizer; default: the training's.")
OCCURRENCES = flags.DEFINE_integer("occurrences", 100, "Of each word, at most.", lower_bound=1)
DOWNSTREAM = flags.DEFINE_string("downstream", None, "A folder with fine-tuning runs from these models.")
OUT = flags.DEFINE_string("out", None, "A folder for the results.")


def main(argv: list[str]) -> int:
    if not BEFORE.value or not AFTER.value or not OUT.value:
        command_line.fail("needed: --before, --after and --out; see --help")
    command_line.keep_memory_and_programs()
    from experiments.word_lists import read_words
    from tx_jax.data.corpus.token_store import TokenStore
    from tx_jax.evaluation import domain
    from tx_jax.evaluation.evaluate import evaluate_model, even_batch_size, held_out
    from tx_jax.files import json_text, path_of, write_atomically
    from tx_jax.runs import data_paths, trained
    from tx_jax.runs.run_dir import RunDir
    from tx_jax.tasks.registry import open_task

    run = trained.load(AFTER.value)
    if run.config is None:
        command_line.fail(f"--after={AFTER.value} is not the run directory of the training")
    run.require_masks()
    given = {name: flag.value for name, flag in {"original": ORIGINAL, "before": BEFORE}.items() if flag.value}
    models = {name: trained.load(model, heads=("masked_lm",)) for name, model in given.items()}
    models["after"] = run
    reached = domain.fine_tunings(path_of(DOWNSTREAM.value, "--downstream"), models) if DOWNSTREAM.value else {}
    config = data_paths.found(RunDir(path_of(AFTER.value, "--after")), run.config, store=STORE.value)
    store = config.data.store
    batch_size = even_batch_size(run.config.training.eval_batch_size, run.mesh)
    words = read_words(WORDS.value)
    found = domain.occurrences(TokenStore.open(store).split("validation"), words, run.tokenizer, OCCURRENCES.value)
    counts = {word: sum(one.word == word for one in found) for word in words}
    report: dict[str, Any] = {"occurrences": counts, "models": {}}
    for name, model in models.items():
        probabilities = domain.word_probabilities(model, found)
        means = {
            word: float(probabilities[[one.word == word for one in found]].mean()) for word in words if counts[word]
        }
        figures = report["models"][name] = {"word_probability": means}
        if name != "original":  # its tokens differ
            task = open_task(config, store, model.tokenizer)
            batches = task.batches("validation", batch_size=batch_size, repeat=False)
            loss = evaluate_model(model, task, held_out(batches, 0))["masked_lm_loss"]
            figures |= {"masked_lm_loss": loss, "perplexity": math.exp(loss)}
            figures["neighbours"] = domain.neighbours(model, words)
        if name in reached:
            figures["downstream"] = reached[name]
    out = path_of(OUT.value, "--out")
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "report.json", json_text(report, indent=2, ensure_ascii=False) + "\n")
    _show(report)
    if any(counts.values()):
        shown = {name: figures["word_probability"] for name, figures in report["models"].items()}
        domain.draw(shown, out / "words.png")
    return 0


def _show(report: dict[str, Any]) -> None:
    """Prints the report as tables with one column per model."""
    from rich.table import Table

    from experiments.display import make_console

    models, console = report["models"], make_console()
    table = Table("held-out text of the domain", *models, title="Before and after")
    for word, count in report["occurrences"].items():
        values = [figures["word_probability"].get(word) for figures in models.values()]
        shown = ["-" if value is None else f"{value:.2%}" for value in values]
        table.add_row(f"probability of {word}, masked ({count} times)", *shown)
    perplexities = [figures.get("perplexity") for figures in models.values()]
    table.add_row("perplexity of masked tokens", *("-" if p is None else f"{p:.1f}" for p in perplexities))
    for word in report["occurrences"]:
        near = [figures.get("neighbours", {}).get(word, []) for figures in models.values()]
        table.add_row(f"nearest to {word}", *(", ".join(token for token, _ in tokens) for tokens in near))
    console.print(table)
    if reached := {name: figures["downstream"] for name, figures in models.items() if "downstream" in figures}:
        seeds, *splits = next(iter(reached.values())).items()
        table = Table("fine-tuned", *reached, title=f"Mean and standard deviation of {len(seeds[1])} seeds")
        for split, metrics in splits:
            for metric in metrics:
                spreads = [scores[split][metric] for scores in reached.values()]
                table.add_row(f"{metric}, {split} data", *(f"{s['mean']:.4f} ± {s['deviation']:.4f}" for s in spreads))
        console.print(table)


if __name__ == "__main__":
    command_line.run(main)
