"""The log of a run: TensorBoard may fail, metrics.jsonl may not."""

import gc
import shutil
import warnings

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from tx_jax.errors import InputWarning
from tx_jax.runs import metrics_log
from tx_jax.runs.metrics_log import MetricsLog


def events(folder):
    """Every event of TensorBoard's files, oldest first."""
    found = []
    for path in sorted((folder / "tb").iterdir()):
        content, at = path.read_bytes(), 0
        while at < len(content):  # length, its checksum, the event, its checksum
            length = int.from_bytes(content[at : at + 8], "little")
            found.append(Event.FromString(content[at + 12 : at + 12 + length]))
            at += 16 + length
    return found


def test_tensorboard_gets_the_same_and_is_told_where_a_resume_begins(tmp_path):
    with MetricsLog(tmp_path, start_step=3) as log:
        log.write(4, "train", {"loss": 2.5, "learning_rate": 0.1})
        log.write(4, "validation", {"loss": 3.0})
    version, start, *rest = events(tmp_path)
    assert version.file_version == "brain.Event:2"
    assert (start.step, start.session_log.status) == (4, SessionLog.START)
    written = [(event.step, value.tag, value.simple_value) for event in rest for value in event.summary.value]
    assert written == [
        (4, "train/loss", 2.5),
        (4, "train/learning_rate", pytest.approx(0.1)),
        (4, "validation/loss", 3),
    ]


@pytest.mark.parametrize("how", ["raises", "no folder", "vanishes"])
def test_what_fails_there_is_told_once_and_stops_nothing(tmp_path, monkeypatch, how):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    if how == "no folder":
        (tmp_path / "tb").write_text("")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with MetricsLog(tmp_path, start_step=0) as log:
            if how == "raises":
                monkeypatch.setattr(metrics_log.EventsWriter, "write_event", fail)
            elif how == "vanishes":
                shutil.rmtree(tmp_path / "tb")
            for step in range(1, 40):
                log.write(step, "train", {"loss": 1.0})
        del log
        gc.collect()
    assert ResourceWarning not in [warning.category for warning in told]  # what was opened is closed
    assert [record["step"] for record in metrics_log.read(tmp_path)] == list(range(1, 40))
    (text,) = [str(warning.message) for warning in told if warning.category is InputWarning]
    assert "TensorBoard" in text


def test_a_log_that_cannot_be_written_is_named(tmp_path):
    class Full:
        def write(self, text):
            raise OSError(28, "No space left on device")

        close = write

    with MetricsLog(tmp_path, start_step=0) as log:
        log._file.close()
        log._file = Full()
        with pytest.raises(OSError, match="No space left") as told:
            log.write(1, "train", {"loss": 1.0})
        assert told.value.filename == str(tmp_path / "metrics.jsonl")
        log._file.close = lambda: None
