"""Run directories as trials leave them, without training."""

import json
from pathlib import Path

from configs import classification
from tx_jax.config import from_config_dict, to_dict
from tx_jax.files import json_text
from tx_jax.sweeps.settings import Trial
from tx_jax.sweeps.sweep_dir import SweepDir


def begin(directory: SweepDir, one: Trial, best_metric: str = "mcc") -> Path:
    folder = directory.prepare(one)
    c = classification.get_config("smoke")
    c.training.best_metric = best_metric
    (folder / "config.json").write_text(json_text(to_dict(from_config_dict(c))))
    return folder


def curve(directory: SweepDir, one: Trial, values: list[float], metric: str = "mcc") -> None:
    records = [{"step": 10 * i, "split": "validation", metric: value} for i, value in enumerate(values, start=1)]
    (directory.folder(one) / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def finish(directory: SweepDir, one: Trial, value: float, metric: str = "mcc", **splits: float) -> None:
    """A trial that is done, with a score on validation data and on other splits."""
    folder = begin(directory, one, metric)
    reports = {name: {"metrics": {metric: score}} for name, score in {"validation": value, **splits}.items()}
    (folder / "evaluation.json").write_text(json.dumps(reports))
    (folder / "DONE").write_text("step 20\n")
