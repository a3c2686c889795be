"""Run in a process of its own with 8 virtual devices: prints on what mesh the report of a run is made, and it, as JSON.

python -m tests.multidevice.final_report FOLDER
"""

import json
import pathlib
import sys

from tests.evaluation.test_report import labeled_run, train
from tx_jax.evaluation import report
from tx_jax.runs import trained


def main(folder: pathlib.Path) -> dict:
    task = train(labeled_run(folder, data=2, fsdp=4), folder / "run")
    models, load = [], trained.load
    trained.load = lambda *given, **options: models.append(load(*given, **options)) or models[-1]
    together = report.evaluate_run(folder / "run", task=task)["validation"].metrics
    kernel = models[0].params["encoder"]["layer_0"]["mlp"]["wi"]["kernel"]
    report._run_mesh = lambda config: None
    return {
        "mesh": dict(models[0].mesh.shape),
        "shape": kernel.shape,
        "shard": kernel.addressable_shards[0].data.shape,
        "together": together,
        "alone": report.evaluate_run(folder / "run", task=task)["validation"].metrics,
    }


if __name__ == "__main__":
    print(json.dumps(main(pathlib.Path(sys.argv[1]))))
