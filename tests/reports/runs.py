"""Run directories as trainings leave them, without training."""

import json
from pathlib import Path

from configs import classification
from tx_jax.config import from_config_dict, to_dict
from tx_jax.files import json_text

COUNTS = [[8, 2], [1, 9]]


def write(folder: Path, *, seed: int = 0, rate: float = 2e-5, score: float = 0.5, label: str = "<b>&") -> Path:
    """A classifier of two labels, one of which HTML and Markdown must not take for their own."""
    folder.mkdir(parents=True)
    c = classification.get_config("smoke")
    c.seed, c.optimizer.learning_rate, c.training.best_metric = seed, rate, "macro_f1"
    c.data.train, c.data.test, c.start_from = "texts.csv", "tfds:glue/cola#test", "google-bert/bert-base-uncased"
    (folder / "config.json").write_text(json_text(to_dict(from_config_dict(c))))
    records = []
    for step in range(5, 25, 5):
        times = {"seconds_total": 10.0 + step, "seconds_starting": 4.0, "seconds_compiling": 3.0, "goodput": 0.5}
        speed = {"tokens_per_second": 1000.0 * step, "mfu": 0.25, "skipped_updates": 0.0}
        records.append({"step": step, "split": "train", "loss": 1 / step, **speed, **times})
        records.append(
            {"step": step, "split": "validation", "loss": 2 / step, "macro_f1": score - 0.01 * abs(step - 10)}
        )
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    confusion = {"labels": ["a", label], "counts": COUNTS}
    evaluation = {
        split: {
            "step": 10,
            "metrics": {"loss": 0.2, "macro_f1": value},
            "baselines": {"macro_f1": 0.33},
            "confusion": confusion,
        }
        for split, value in (("validation", score), ("test", score - 0.1))
    }
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    environment = {
        "command": ["/home/me/tx_jax/experiments/train.py", "--config=a.py", f"--workdir={folder}", "--x=a b"],
        "revision": "abc1234-dirty",
        "devices": ["cpu: cpu", "cpu: cpu"],
        "packages": {"jax": "0.10.2"},
        "data_fingerprint": "f00",
    }
    (folder / "env.json").write_text(json.dumps(environment))
    (folder / "DONE").write_text("step 20\n")
    return folder
