"""Progress of data preparation and of evaluation: a progress bar on a terminal, a plain line every few seconds
elsewhere.
"""

import sys
import time

from tqdm import tqdm

from tx_jax.data.corpus.prepare import Progress

LINE_SECONDS = 5.0
_STAGES = {
    "wait": "waiting for the other processes",
    "tokenizer": "training the tokenizer",
    "resume": "rereading what is already encoded",
    "encode": "encoding",
}


class PrepareProgress:
    """A callback for `prepare`; a context manager, so that the bar is closed even after an error.

    Attributes:
      encoded_tokens, encoding_seconds: how many tokens this run encoded, and how long that took.
    """

    def __init__(self):
        self._bar: tqdm | None = None
        self._stage = ""
        self._began = 0.0
        self._last_shown = 0.0
        self._tokens_before = 0
        self.encoded_tokens, self.encoding_seconds = 0, 0.0

    def __enter__(self) -> "PrepareProgress":
        return self

    def __exit__(self, *_) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.stage != self._stage:
            self._begin(progress, now)
        if progress.stage == "encode":
            self.encoded_tokens, self.encoding_seconds = progress.tokens - self._tokens_before, now - self._began
        interval = 0.1 if self._bar is not None else LINE_SECONDS
        if now - self._last_shown < interval:
            return
        self._last_shown = now
        text = self._describe(progress, now)
        if self._bar is None:
            share = "" if progress.fraction is None else f" {min(1.0, progress.fraction):.0%}"
            print(f"{_STAGES[progress.stage]}{share}: {text}", flush=True)
        else:
            self._bar.n = round(100 * min(1.0, progress.fraction or 0.0), 1)
            self._bar.set_description_str(f"{_STAGES[progress.stage]}: {text}")

    def _begin(self, progress: Progress, now: float) -> None:
        self._stage, self._began, self._tokens_before = progress.stage, now, progress.tokens
        self._last_shown = now
        if sys.stderr.isatty():
            if self._bar is not None:
                self._bar.close()
            # Without a known size there is no percentage to show.
            layout = "{desc}" if progress.fraction is None else "{desc} {percentage:3.0f}%|{bar}|"
            self._bar = tqdm(total=100, desc=_STAGES[progress.stage], bar_format=layout, dynamic_ncols=True)

    def _describe(self, progress: Progress, now: float) -> str:
        text = f"{progress.characters / 1e6:,.1f} M characters"
        if progress.documents:
            text = f"{progress.documents:,} documents, {text}"
        if progress.stage == "encode":
            rate = self.encoded_tokens / max(self.encoding_seconds, 1e-9)
            text += f", {progress.tokens:,} tokens, {rate:,.0f} tokens/s"
        return text


class EvaluationProgress:
    """A callback for evaluations: what is evaluated, how many batches are done, and of how many."""

    def __init__(self, *, announces: bool):
        """
        Args:
          announces: print a line before an evaluation begins; otherwise only long evaluations show anything.
        """
        self._announces = announces
        self._bar: tqdm | None = None
        self._began = self._last_shown = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done == 0:
            self.close()
            self._began = self._last_shown = now
            if self._announces:
                print(f"evaluating {what}: {total:,} batches", flush=True)
        if self._bar is None and (now - self._last_shown < LINE_SECONDS or done == total):
            return
        if not sys.stderr.isatty():
            self._last_shown = now
            left = duration((now - self._began) / done * (total - done))
            print(f"evaluating {what}: {done:,} of {total:,} batches, {left} left", flush=True)
            return
        if self._bar is None:
            self._bar = tqdm(desc=f"evaluating {what}", total=total, unit="batch", leave=False, dynamic_ncols=True)
        self._bar.update(done - self._bar.n)
        if done == total:
            self.close()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def duration(seconds: float) -> str:
    """The time as hours:minutes:seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def roughly(seconds: float) -> str:
    """The time in its largest unit, for an estimate: "40 s", "4 min", "3.5 h", "12 days"."""
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 1.5 * size:
            count = seconds / size
            return f"{count:.1f} {unit}" if unit != "min" and count < 10 else f"{count:.0f} {unit}"
    return f"{seconds:.0f} s"
