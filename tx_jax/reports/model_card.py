"""The card of an exported model: README.md with the YAML header that the Hugging Face Hub reads."""

import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tx_jax.config.effects import EFFECTS
from tx_jax.convert import model_dir
from tx_jax.errors import InputError
from tx_jax.files import json_text
from tx_jax.reports import markdown
from tx_jax.reports.facts import Run
from tx_jax.reports.sections import Table, cell, number
from tx_jax.runs.open_model import OpenModel

# Head -> the Hub's name of the task, the first that a model has.
PIPELINES = {
    "sequence_classification": "text-classification",
    "token_classification": "token-classification",
    "question_answering": "question-answering",
    "multiple_choice": "multiple-choice",
    "masked_lm": "fill-mask",
    "causal_lm": "text-generation",
}
# Our metric -> its name on the Hub, where that is another.
METRICS = {
    "mcc": "matthews_correlation",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
    "macro_f1": "f1",
    "micro_f1": "f1",
    "entity_f1": "f1",
    "entity_precision": "precision",
    "entity_recall": "recall",
    "causal_lm_perplexity": "perplexity",
}
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
HYPERPARAMETERS = (
    *("optimizer.", "phases.", "lora.", "distillation.", "data.sequence_length", "seed"),
    *(
        "training.num_",
        "training.batch_size",
        "training.accumulation_steps",
        "training.best_metric",
        "training.patience",
    ),
)
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]+)*|code|multilingual")


def text(model: OpenModel, name: str, class_name: str, run: Run | None, languages: Sequence[str] = ()) -> str:
    """The whole of README.md. What nobody knows, such as the license, is not in it.

    Args:
      name: of the model.
      class_name: that of transformers, to load it with.
      run: what trained it; None for a converted model.
      languages: of the text, as codes that the Hub knows.
    """
    base = base_model(model, run)
    task = next((pipeline for head, pipeline in PIPELINES.items() if head in model.config.heads), "feature-extraction")
    if model.config.architecture == "encoder_decoder":
        task = "translation"
    results = _results(run, model.step)
    header: dict[str, Any] = {
        "language": list(languages),
        "library_name": "transformers",
        "pipeline_tag": task,
        "tags": ["tx_jax", model.config.architecture],
        "base_model": base,
        "datasets": _datasets(run),
        "metrics": list(dict.fromkeys(METRICS.get(metric, metric) for _, metric, _ in results if "loss" not in metric)),
        "model-index": _index(model, name, task, run),
    }
    lines = ["---", *_yaml({key: value for key, value in header.items() if value}), "---", "", f"# {name}", ""]
    size = sum(np.size(x) for x in model.params.values())
    begun = f", trained further from {base}" if base and run else f", converted from {base}" if base else ""
    lines += [f"A `{class_name}` of {size:,} parameters{begun}, exported with tx_jax.", ""]
    auto = "AutoModel" if class_name.endswith("Model") else class_name
    lines += [
        "```python",
        f"from transformers import AutoTokenizer, {auto}",
        "",
        'folder = "."  # this one',
        f"model, tokenizer = {auto}.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)",
        "```",
        "",
    ]
    if model.labels:
        lines += [f"Labels: {', '.join(model.labels)}.", ""]
    return "\n".join([*lines, *(_of_run(model, run) if run else ())]).rstrip() + "\n"


def _of_run(model: OpenModel, run: Run) -> list[str]:
    data = {key: run.config.get(f"data.{key}") for key in ("train", "store", "validation", "test")}
    lines = ["## Training data", ""]
    lines += [f"- {name}: `{value}`" for name, value in data.items() if value]
    fingerprint = run.environment.get("data_fingerprint")
    lines += [f"- fingerprint: `{fingerprint}`"] if fingerprint else []
    results = _results(run, model.step)
    if rows := [[split, name, number(value), _baseline(run, split, name)] for split, name, value in results]:
        lines += ["", "## Results", "", *markdown.table(Table("", ["data", "metric", "value", "baseline"], rows))]
    known = [effect for effect in EFFECTS if run.config.keys() >= set(effect.keys)]
    idle = {key for effect in known if not effect.works(model.experiment) for key in effect.keys}
    chosen = {key: run.config[key] for key in run.config if key.startswith(HYPERPARAMETERS) and key not in idle}
    settings = [[key, cell(value)] for key, value in chosen.items() if value not in (None, "", [], ())]
    lines += [*([] if rows else [""]), "## Hyperparameters", ""]
    lines += markdown.table(Table("", ["key", "value"], settings, numeric=False))
    environment = run.environment
    packages = environment.get("packages", {})
    lines += ["## How it was trained", "", f"These are the parameters of step {model.step:,}. Trained on:", ""]
    facts = {
        "devices": ", ".join(dict.fromkeys(environment.get("devices", ()))),
        "versions": ", ".join(f"{one} {packages[one]}" for one in ("tx_jax", "jax", "flax") if packages.get(one)),
        "revision": environment.get("revision"),
        "started": environment.get("started"),
    }
    lines += [f"- {key}: {value}" for key, value in facts.items() if value]
    if command := environment.get("command"):
        module = Path(command[0]).stem
        lines += ["", "```", " ".join(["python", "-m", f"experiments.{module}", *map(shlex.quote, command[1:])]), "```"]
    return lines


def check_languages(languages: Sequence[str]) -> None:
    """Raises InputError for a text that is no code of a language."""
    for language in languages:
        if not _LANGUAGE.fullmatch(language):
            raise InputError(f"--language={language}: give a code such as es, or en,de for several")


def base_model(model: OpenModel, run: Run | None) -> str:
    """The name on the Hub of the model that this one comes from; "" if it comes from none, or that is not known."""
    start = str(run.config.get("start_from") or "") if run else ""
    if not run:
        return model.source.name if model.source and HUB_NAME.fullmatch(model.source.name) else ""
    file = Path(start) / model_dir.FILE
    if start and file.is_file():
        try:
            start = json.loads(file.read_text()).get("source", {}).get("name") or ""
        except (ValueError, AttributeError):
            return ""
    return start if HUB_NAME.fullmatch(start) and not Path(start).exists() else ""


def _results(run: Run | None, step: int | None) -> list[tuple[str, str, float]]:
    """Split, metric and value of the evaluation of these parameters."""
    final = run.final(step) if run else {}
    return [(split, name, x) for split, metrics in final.items() for name, x in metrics.items() if math.isfinite(x)]


def _baseline(run: Run, split: str, metric: str) -> str:
    value = run.evaluation.get(split, {}).get("baselines", {}).get(metric)
    return number(value)


def _datasets(run: Run | None) -> list[str]:
    """Names of TensorFlow Datasets; files have none."""
    sources = [str(run.config.get(f"data.{key}") or "") for key in ("train", "store")] if run else []
    return [source.removeprefix("tfds:").partition("#")[0] for source in sources if source.startswith("tfds:")]


def _index(model: OpenModel, name: str, task: str, run: Run | None) -> list[dict[str, Any]]:
    results: dict[str, list[dict[str, Any]]] = {}

    def data_of(split: str) -> str:
        sources = [run.config.get(f"data.{key}") for key in (split, "train", "store")] if run else []
        return Path(str(next(filter(None, sources), "data"))).name

    for split, metric, value in _results(run, model.step):
        known = {"type": METRICS.get(metric, metric), "name": metric, "value": round(value, 6)}
        results.setdefault(split, []).append(known)
    return [
        {
            "name": name,
            "results": [
                {
                    "task": {"type": task},
                    "dataset": {"name": data_of(split), "type": data_of(split), "split": split},
                    "metrics": metrics,
                }
                for split, metrics in results.items()
            ],
        }
    ] if results else []  # fmt: skip


def _yaml(values: Mapping[str, Any], indent: str = "") -> list[str]:
    """Block YAML of nested dicts and lists; texts are quoted as JSON, which YAML contains."""
    lines = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{key}:", *_yaml(value, indent + "  ")]
        elif isinstance(value, list):
            lines.append(f"{indent}{key}:")
            for item in value:
                if isinstance(item, Mapping):
                    first, *others = _yaml(item, indent + "    ")
                    lines += [f"{indent}  - {first.strip()}", *others]
                else:
                    lines.append(f"{indent}  - {json_text(item, ensure_ascii=False)}")
        else:
            lines.append(f"{indent}{key}: {json_text(value, ensure_ascii=False)}")
    return lines
