"""history.jsonl: which start of a run trained which steps, and with what. One record for each start that trained:

after_step   the step that it continued from; 0: it began the run
to_step      the last of its steps that is still part of the run; it equals `after_step` if a later start trained them
             again; null: up to the newest checkpoint
changes      the keys that differ from the previous record, `key: old -> new`
config       the whole configuration, if it differs from the previous record
before       only for a run that is older than this file: where its configuration comes from
started, command, folder, revision, packages, devices, …: as in env.json

So the configuration of a step is the last `config` up to the record whose range contains the step.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tx_jax.config import differences, from_config_dict, to_dict
from tx_jax.errors import InputError
from tx_jax.files import json_text, write_atomically

NAME = "history.jsonl"


def read(workdir: Path) -> list[dict[str, Any]]:
    """The records, oldest first; [] if there are none.

    Raises:
      InputError: a line is damaged.
    """
    path = workdir / NAME
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        try:
            record = json.loads(line)
            record["after_step"], record["to_step"]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path}, line {number} is damaged: remove that line") from None
        records.append(record)
    return records


def begin(
    workdir: Path,
    after_step: int,
    config: Mapping[str, Any],
    environment: Mapping[str, Any],
    earlier: Mapping[str, Any] | None,
) -> None:
    """Adds the record of a start. Later steps in earlier records are no longer part of the run.

    Args:
      config: nested plain values, as all configurations here.
      earlier: the content of config.json, which applies to all steps of a run that has no history yet.

    Raises:
      InputError: the file is damaged.
    """
    records = read(workdir)
    if not records and after_step and earlier:
        records = [{"after_step": 0, "to_step": after_step, "before": "as config.json said", "config": earlier}]
    for record in records:
        end = after_step if record["to_step"] is None else min(record["to_step"], after_step)
        record["to_step"] = max(record["after_step"], end)
    record = {"after_step": after_step, "to_step": None, "changes": [], **environment}
    known = next((record["config"] for record in reversed(records) if "config" in record), None)
    if known is not None:  # through the dataclasses, which know the keys that were added later
        record["changes"] = differences(to_dict(from_config_dict(known, trains=False)), config)
    if known is None or record["changes"]:
        record["config"] = config
    _write(workdir, [*records, record])


def reached(workdir: Path, step: int) -> None:
    """Records that the current start has ended, or stopped, after this step."""
    records = read(workdir)
    records[-1]["to_step"] = step
    _write(workdir, records)


def _write(workdir: Path, records: list[dict[str, Any]]) -> None:
    write_atomically(workdir / NAME, "".join(json_text(record) + "\n" for record in records))
