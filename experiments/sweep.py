"""Trains a model with many settings, each in a run directory of its own, and tells which is best.

    python -m experiments.sweep --config=configs/glue.py:cola --workdir=runs/cola \\
        --sweep.optimizer.learning_rate=1e-5,2e-5,3e-5 --sweep.seed=0,1,2,3,4

--sweep.KEY gives the values of a key of the configuration; commas inside brackets or quotes do not split, and a flag
that is repeated adds values. The seed (and the fold of --folds) makes no settings, but repeats them: results are means
and standard deviations over it. Everything else is as for experiments.train: --config.KEY=VALUE applies to every trial.

--search=grid (the default) tries every combination; random draws --trials=N settings, also from ranges:
--sweep.optimizer.learning_rate="log(1e-5,1e-3)", --sweep.model.dropout="uniform(0,0.3)", --sweep.lora.rank="int(2,16)".
--search=tpe (pip install -e ".[sweep]") chooses N settings by what the ones before reached, with Optuna's multivariate
TPE, and gives up trials whose validation curve is worse than the median of the others (--noprune: none).

A configuration file may have its own sweep, which is taken if there is one; --sweep.KEY multiplies it:

    def get_sweep(hyper):
        return hyper.product([hyper.sweep("optimizer.learning_rate", [1e-5, 3e-5]), hyper.sweep("seed", range(3))])

besides `sweep` and `product`: `zipit` and `chainit` of several parts, and `fixed(key, value, length)`.

--folds=5 is cross-validation over one labeled file: five runs a setting, each with another fifth held out.

Settings are compared on validation data only, by --metric (default: training.best_metric); test data is shown for the
best setting alone. WORKDIR gets results.json, results.csv, trials.csv and sweep.png. --dry_run prints what each trial
changes, and its command.

--workers=N trains N at a time; the devices of this machine (GPUs, TPU chips or CPU cores) are divided among them.
--slurm=partition=gpu,gpus_per_node=1,timeout_min=240 (pip install -e ".[slurm]") runs each trial as a job of SLURM, N
at a time, by submitit; the names are submitit's, and cluster=local tries it without SLURM. The nodes must see WORKDIR.
Several machines share one search with --search=tpe --study=URL, such as postgresql://...; all must see the same
WORKDIR.

To continue a sweep that was killed, run the same command again: what is done is skipped, what was interrupted
continues, and what failed is trained again only with --retry. A trial that fails is marked and stops no other.

Exit codes: 0 all trials are done, 1 one has failed, 2 bad input, 75 stopped (run it again to continue).
"""

import sys

from absl import flags
from ml_collections import config_flags

from experiments import command_line
from experiments.word_lists import one_argument_each
from tx_jax.sweeps import axes

CONFIG = config_flags.DEFINE_config_file("config", help_string="configs/NAME.py, or configs/NAME.py:VARIANT.")
WORKDIR = flags.DEFINE_string(
    "workdir", None, "The directory of the sweep, which holds a run directory for each trial."
)
SEARCH = flags.DEFINE_enum("search", "grid", ["grid", "random", "tpe"], "How settings are chosen.")
TRIALS = flags.DEFINE_integer("trials", None, "For random and tpe: number of settings to try.", lower_bound=1)
SEARCH_SEED = flags.DEFINE_integer(
    "search_seed", 0, "For random and tpe: seed of the choice of settings.", lower_bound=0
)
WORKERS = flags.DEFINE_integer("workers", 1, "Number of trials that run at the same time.", lower_bound=1)
METRIC = flags.DEFINE_string("metric", "", "What compares settings, of validation data; default: training.best_metric.")
FOLDS = flags.DEFINE_integer("folds", None, "Cross-validation: number of parts, each held out once.", lower_bound=2)
PRUNE = flags.DEFINE_bool("prune", True, "For tpe: give up trials whose validation curve is bad.")
STUDY = flags.DEFINE_string("study", None, "For tpe: the URL of a database that several machines share.")
SLURM = flags.DEFINE_list(
    "slurm", None, "Run trials as jobs of SLURM, with parameters of submitit such as partition=gpu,gpus_per_node=1."
)
RETRY = flags.DEFINE_bool("retry", False, "Train trials that failed again.")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print what each trial changes and its command, and train nothing.")

# Arguments that are passed on to each training.
GIVEN = ("--config=", "--config.", "--noconfig.", "--extensions=")


def main(argv: list[str]) -> int:
    if not CONFIG.value or not (WORKDIR.value or DRY_RUN.value):
        command_line.fail("needed: --config and --workdir, such as --config=configs/glue.py:cola --workdir=runs/cola")
    searches = SEARCH.value != "grid"
    if searches != (TRIALS.value is not None):
        command_line.fail(
            f"--search={SEARCH.value} needs --trials=N, the number of settings"
            if searches
            else "--trials=N is for --search=random and tpe; a grid has as many settings as its axes make"
        )
    if STUDY.value and SEARCH.value != "tpe":
        command_line.fail("--study is for --search=tpe, whose machines must know each other's results")
    from experiments.sweep_plan import Plan

    plan = Plan(
        config=CONFIG.value,
        given=[argument for argument in ARGUMENTS if argument.startswith(GIVEN)],
        swept=SWEPT,
        workdir=WORKDIR.value or "WORKDIR",
        search=SEARCH.value,
        count=TRIALS.value or 0,
        seed=SEARCH_SEED.value,
        folds=FOLDS.value or 0,
        metric=METRIC.value,
        prune=PRUNE.value,
    )
    if DRY_RUN.value:
        plan.show()
        return 0
    from experiments import sweep_run

    return sweep_run.run(plan, workers_at_once=WORKERS.value, retry=RETRY.value, study=STUDY.value, slurm=SLURM.value)


if __name__ == "__main__":
    ARGUMENTS = one_argument_each(sys.argv[1:])
    SWEPT = [argument for argument in ARGUMENTS if argument.startswith(axes.PREFIX)]
    sys.argv[1:] = [argument for argument in ARGUMENTS if not argument.startswith(axes.PREFIX)]
    command_line.run(main)
