"""metrics.jsonl and TensorBoard event files."""

import json
from pathlib import Path

from tensorboardX import SummaryWriter

from tx_jax.errors import InputError
from tx_jax.files import write_atomically


class MetricsLog:
    """Appends records. A resumed run first drops the records after the step that it starts from."""

    def __init__(self, directory: Path, *, start_step: int):
        self._path = directory / "metrics.jsonl"
        if self._path.exists():
            kept = [record for record in read(directory) if record["step"] <= start_step]
            write_atomically(self._path, "".join(json.dumps(record) + "\n" for record in kept))
        self._file = self._path.open("a")
        self._tensorboard = SummaryWriter(str(directory / "tb"), purge_step=start_step + 1)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()
        self._tensorboard.close()

    def write(self, step: int, split: str, values: dict[str, float]) -> None:
        """One record, on disk when this returns. `step` counts finished optimizer steps."""
        self._file.write(json.dumps({"step": step, "split": split, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._tensorboard.add_scalar(f"{split}/{name}", value, step)


def read(directory: Path) -> list[dict]:
    """The records of a run, in order. A last line that a kill cut short is left out.

    Raises:
      InputError: another line is damaged.
    """
    path = directory / "metrics.jsonl"
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(keepends=True), start=1):
        if line.endswith("\n"):
            try:
                records.append(json.loads(line))
            except ValueError:
                raise InputError(f"{path}, line {number} is damaged: remove that line") from None
    return records
