"""Settings chosen by what the trials before reached, with Optuna's multivariate TPE (Bergstra et al. 2011; Falkner et
al. 2018).

The run directories are the truth. On one machine the study is only in memory, made anew from them at each start; in a
database that several machines share, trials that a killed worker left behind are told from them, or continued.
"""

import contextlib
import dataclasses
import json
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tx_jax.config import differences
from tx_jax.errors import InputError
from tx_jax.files import json_text
from tx_jax.runs.best import Evaluations, quality
from tx_jax.runs.run_dir import hold_lock
from tx_jax.sweeps import results
from tx_jax.sweeps.axes import Axis, Range
from tx_jax.sweeps.settings import Setting, Trial, names_of, trial
from tx_jax.sweeps.sweep_dir import State, SweepDir

if TYPE_CHECKING:
    from optuna.trial import Trial as Asked

RANDOM_SETTINGS = 5  # before the first that follows from others, and before the first that is given up
_SEEDS_APART = 100_003  # between the random numbers of two searches
_STUDY = "tx_jax"
_OVER = (State.DONE, State.FAILED, State.PRUNED)


@dataclasses.dataclass
class _Open:
    """A setting of which not all trials are over: `trials` of all repeats, of which `given` are the names of those that
    were given to workers."""

    asked: "Asked"
    trials: list[Trial]
    given: set[str]
    told: int = 0  # evaluations of the first trial that the study knows
    claim: contextlib.ExitStack = dataclasses.field(default_factory=contextlib.ExitStack)


class Tpe:
    """A source of trials, see `workers.Source`. A setting's value is the mean over its repeats.

    Args:
      repeats: the runs of each setting.
      metric: of validation data; "": `training.best_metric`.
      count: number of settings, of all machines together.
      prune: whether to stop a trial whose best evaluation so far is worse than the median of the others' at that point;
        of several repeats, the first decides.
      url: the database of a study that several machines share, such as sqlite:///sweep.db; None: this process alone.
      definition: what makes two sweeps the same.

    Raises:
      InputError: Optuna is missing, the database cannot be opened or holds another sweep.
    """

    def __init__(
        self,
        axes: Sequence[Axis | Range],
        repeats: Sequence[Setting],
        directory: SweepDir,
        *,
        metric: str,
        count: int,
        seed: int,
        retry: bool,
        prune: bool,
        url: str | None = None,
        definition: Mapping[str, Any] | None = None,
    ):
        self._axes, self._repeats, self._directory = axes, repeats, directory
        self._metric, self._count, self._seed, self._prune, self._shared = metric, count, seed, prune, url is not None
        self._retry = retry
        self._optuna = _import_optuna()
        self._distributions = {axis.key: self._distribution(axis) for axis in axes}
        self._study = self._open_study(url, definition or {})
        self._open: dict[int, _Open] = {}
        self._reconcile() if self._shared else self._rebuild()

    # --- the study

    def _distribution(self, axis: Axis | Range) -> Any:
        of = self._optuna.distributions
        if isinstance(axis, Axis):
            return of.CategoricalDistribution(axis.values)
        if axis.kind == "int":
            return of.IntDistribution(int(axis.low), int(axis.high))
        return of.FloatDistribution(axis.low, axis.high, log=axis.kind == "log")

    def _sampler(self, number: int) -> Any:
        """A sampler for one setting: a function of the search's seed and the setting's number, so that a search that
        was killed does not draw its first settings again."""
        return self._optuna.samplers.TPESampler(
            multivariate=True,
            constant_liar=True,
            n_startup_trials=RANDOM_SETTINGS,
            seed=self._seed * _SEEDS_APART + number,
        )

    def _open_study(self, url: str | None, definition: Mapping[str, Any]) -> Any:
        optuna = self._optuna
        options = {"direction": "maximize", "pruner": optuna.pruners.MedianPruner(n_startup_trials=RANDOM_SETTINGS)}
        if url is None:
            return optuna.create_study(**options)
        try:
            study = optuna.create_study(**options, storage=url, study_name=_STUDY, load_if_exists=True)
        except Exception as error:  # whatever the database's driver raises
            line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise InputError(f"--study={url} cannot be opened: {line}") from None
        plain = json.loads(json_text(definition))
        known = study.user_attrs.get("sweep", plain)
        if different := differences(known, plain):
            raise InputError(
                f"--study={url} holds another sweep: {'; '.join(different)}. Give what it was started with, or another "
                "database"
            )
        study.set_user_attr("sweep", plain)
        return study

    def _rebuild(self) -> None:
        """The study from the run directories; settings that are not over are continued."""
        found: dict[int, Trial] = {}
        for one in self._directory.begun():
            if number := re.match(r"(\d+)__", one.name):
                found.setdefault(int(number[1]), one)
        for number in range(max(found, default=-1) + 1):
            if number not in found:  # somebody removed it
                self._study.add_trial(self._optuna.trial.create_trial(state=self._optuna.trial.TrialState.FAIL))
                continue
            setting = {axis.key: found[number].setting[axis.key] for axis in self._axes}
            trials = self._trials(number, setting)
            if self._over(trials):
                state, value = self._result(trials)
                self._study.add_trial(
                    self._optuna.trial.create_trial(
                        state=state,
                        value=value,
                        params={axis.key: _number(axis, setting[axis.key]) for axis in self._axes},
                        distributions=self._distributions,
                        intermediate_values=dict(enumerate(self._curve(trials[0]))),
                    )
                )
            else:
                self._study.enqueue_trial({axis.key: _number(axis, setting[axis.key]) for axis in self._axes})
                self._open[number] = _Open(self._study.ask(self._distributions), trials, set())

    def _reconcile(self) -> None:
        """Takes over the settings of the shared study that nobody runs."""
        running = self._optuna.trial.TrialState.RUNNING
        for known in self._study.get_trials(deepcopy=False, states=(running,)):
            if known.number in self._open or set(known.params) != set(self._distributions):
                continue
            if (claim := self._claimed(known.number)) is None:
                continue
            trials = self._trials(known.number, self._setting(known.params))
            if self._over(trials):
                self._tell(known.number, trials)
                claim.close()
            else:
                asked = self._optuna.trial.Trial(self._study, known._trial_id)
                self._open[known.number] = _Open(asked, trials, set(), claim=claim)

    def _claimed(self, number: int) -> contextlib.ExitStack | None:
        """Holds a setting of a shared study while it is open here; None if another process holds it."""
        stack = contextlib.ExitStack()
        if self._shared:
            try:
                stack.enter_context(hold_lock(self._directory.path / "claims" / f"{number:03d}", "held"))
            except InputError:
                return None
        return stack

    def _setting(self, params: Mapping[str, Any]) -> dict[str, str]:
        return {
            axis.key: params[axis.key] if isinstance(axis, Axis) else axis.text(params[axis.key]) for axis in self._axes
        }

    def _trials(self, number: int, setting: Setting) -> list[Trial]:
        """One for each repeat. The number comes first in their names: the same setting may be chosen again."""
        whole = [{**setting, **repeat} for repeat in self._repeats]
        return [trial(one, f"{number:03d}__{name}") for one, name in zip(whole, names_of(whole), strict=True)]

    # --- what came of a setting

    def _over(self, trials: Sequence[Trial]) -> bool:
        """Whether nothing is left to do: all are done, or the setting has failed or was given up."""
        states = [self._directory.state(one) for one in trials]
        if State.RUNNING in states:
            return False
        failed = State.FAILED in states and not self._retry
        return failed or State.PRUNED in states or all(state == State.DONE for state in states)

    def _result(self, trials: Sequence[Trial]) -> tuple[Any, float | None]:
        """Optuna's state of a setting that is over, and its value."""
        of = self._optuna.trial.TrialState
        states = [self._directory.state(one) for one in trials]
        if State.FAILED in states:
            return of.FAIL, None
        if State.PRUNED in states:
            return of.PRUNED, max(self._curve(trials[0]), default=None)
        metric = self._metric_of(trials)
        return of.COMPLETE, statistics.fmean(
            quality(metric, results.score(self._directory.folder(one), metric)) for one in trials
        )

    def _metric_of(self, trials: Sequence[Trial]) -> str:
        return self._metric or results.metric_of(self._directory, trials)

    def _curve(self, one: Trial) -> list[float]:
        """The qualities of a trial's evaluations on the way, each the best so far."""
        folder = self._directory.folder(one)
        metric = self._metric_of([one])
        found: list[float] = []
        for _, value in Evaluations.read(folder, metric).items() if metric else ():
            found.append(max(value, found[-1]) if found else value)
        return found

    def _tell(self, number: int, trials: Sequence[Trial]) -> None:
        state, value = self._result(trials)
        complete = state == self._optuna.trial.TrialState.COMPLETE  # of one that was given up, it takes the last report
        self._study.tell(number, value if complete else None, state=state, skip_if_finished=True)

    # --- the source

    def next(self) -> Trial | None:
        for one in self._open.values():
            for repeat in one.trials:
                if repeat.name in one.given:
                    continue
                state = self._directory.state(repeat)
                if state in (State.NEW, State.STOPPED) or (state == State.FAILED and self._retry):
                    one.given.add(repeat.name)
                    return repeat
        if len(self._study.get_trials(deepcopy=False)) >= self._count:
            return None
        self._study.sampler = self._sampler(len(self._study.get_trials(deepcopy=False)))
        asked = self._study.ask(self._distributions)
        claim = self._claimed(asked.number)
        if claim is None:  # cannot be: its number is new
            return None
        trials = self._trials(asked.number, self._setting(asked.params))
        self._open[asked.number] = _Open(asked, trials, {trials[0].name}, claim=claim)
        return trials[0]

    def waits(self) -> bool:
        """Trials that an earlier start left running, which this one goes on with once they have ended."""
        held = [one for open_ in self._open.values() for one in open_.trials if one.name not in open_.given]
        return any(self._directory.state(one) == State.RUNNING for one in held)

    def ended(self, trial: Trial, state: State) -> None:
        number, one = self._find(trial)
        if state not in _OVER:  # a later start continues it
            return
        self._report(one)
        if state != State.DONE:  # the setting's other repeats are not begun
            one.given.update(other.name for other in one.trials)
        states = [self._directory.state(other) for other in one.trials]
        gone = {State.FAILED, State.PRUNED} & {
            s for t, s in zip(one.trials, states, strict=True) if t.name in one.given
        }
        if State.RUNNING not in states and (gone or all(state == State.DONE for state in states)):
            self._tell(number, one.trials)
            one.claim.close()
            del self._open[number]

    def verdict(self, trial: Trial) -> str:
        _, one = self._find(trial)
        if not self._prune or trial.name != one.trials[0].name:
            return ""
        self._report(one)
        if one.told and one.asked.should_prune():
            return f"after {one.told} evaluations worse than the median of the other settings at that point"
        return ""

    def _report(self, one: _Open) -> None:
        """Tells the study the evaluations of the first trial that it does not know yet."""
        curve = self._curve(one.trials[0])
        for number in range(one.told, len(curve)):
            one.asked.report(curve[number], number)
        one.told = max(one.told, len(curve))

    def _find(self, trial: Trial) -> tuple[int, _Open]:
        return next((n, one) for n, one in self._open.items() if trial.name in {t.name for t in one.trials})


def _number(axis: Axis | Range, text: str) -> Any:
    return text if isinstance(axis, Axis) else int(text) if axis.kind == "int" else float(text)


def _import_optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise InputError('--search=tpe needs Optuna: pip install -e ".[sweep]"') from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def trials_begun(directory: SweepDir) -> list[Trial]:
    """The trials of a search so far, in their order."""
    return sorted(directory.begun(), key=lambda one: (int(one.name.partition("__")[0]), one.name))
