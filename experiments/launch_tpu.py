"""Trains on TPU VMs of Google Cloud: one command, from the request for a slice to the end of the run.

    python -m experiments.launch_tpu create --name=bert --zone=us-central2-b --accelerator=v4-32 --spot -- \\
        --config=configs/bert_base.py --config.data.store=gs://mine/store --workdir=gs://mine/bert

What comes after -- are the flags of experiments.train. The launcher asks for a queued resource, waits, copies the
working tree as it is now to every worker (without what git ignores; revision, changes and a list of files that git does
not know are kept in WORKDIR/launch), installs a Python that fits, starts the training on all workers, and shows the log
of worker 0. A VM that is preempted, or vanishes, is deleted and asked for anew, and the run continues from its last
checkpoint; a run that fails ends it. Whatever ends it, the resource is deleted, or kept by --keep.

Ctrl-C leaves all as it is, the VM running; the same command takes it up again. Other words (status, logs, ssh, stop,
delete, list) take --name and --zone, too.

--dry_run prints the commands of gcloud that would be run. gcloud must be installed and logged in; the workers read and
write the bucket as --service_account (default: the project's).

--env=WANDB_API_KEY,HF_TOKEN gives the run these variables of this machine; their values are in no log and no record.

Exit codes: 0 done, 1 the run failed, or was restarted too often without a new checkpoint, 2 bad input, 75 left as it is
(run it again to continue).
"""

import contextlib
import os
import re
import signal
import sys
from pathlib import Path

from absl import flags

from experiments import command_line
from tx_jax import shipped
from tx_jax.errors import InputError
from tx_jax.launch.gcloud import Gcloud, GcloudFailed, Slice

EXIT_LEFT = 75

WORDS = command_line.Words(
    "a word, such as python -m experiments.launch_tpu status --name=bert --zone=us-central2-b",
    choices={
        "create": "trains, and takes up what trains already",
        "status": "the states of the resource and of the workers",
        "logs": "the log of worker 0, or --worker=N; with --follow also what is still to come",
        "ssh": "a shell on worker 0, or --worker=N; after -- a command for it, or for --worker=all",
        "stop": "has the training save and stop; the VM stays, and create takes it up again",
        "delete": "deletes the resource, whatever runs there",
        "list": "the resources of a zone; --name is not needed",
    },
    most=1,
    passes_on=True,
)

NAME = flags.DEFINE_string("name", None, "The queued resource and its VM: lower-case letters, digits and -.")
ZONE = flags.DEFINE_string("zone", None, "The zone, such as us-central2-b.")
PROJECT = flags.DEFINE_string("project", "", "The project; default: that of gcloud's configuration.")
INTERNAL_IP = flags.DEFINE_bool("internal_ip", False, "VMs without external addresses, reached by internal ones.")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the commands of gcloud, and run none.")
ACCELERATOR = flags.DEFINE_string("accelerator", None, "Such as v4-32, v5litepod-16, v5p-8, v6e-8, or v4:2x2x4.")
SPOT = flags.DEFINE_bool("spot", False, "Spot capacity: cheaper, and may be taken away at any time.")
RESERVED = flags.DEFINE_bool("reserved", False, "Capacity that is reserved for the project.")
GUARANTEED = flags.DEFINE_bool("guaranteed", False, "Of the tier 'guaranteed'.")
RUNTIME = flags.DEFINE_string("runtime_version", "", "The VM's image; default: the accelerator's.")
VALID_UNTIL = flags.DEFINE_string("valid_until", "", "How long to wait for it, such as 12h; default: for ever.")
SERVICE_ACCOUNT = flags.DEFINE_string("service_account", "", "The account by which the workers use the bucket.")
LABELS = flags.DEFINE_list("labels", [], "Labels of the resource, KEY=VALUE.")
ENV = flags.DEFINE_list("env", [], "Names of variables of this machine that the run gets.")
KEEP = flags.DEFINE_bool("keep", False, "Keep the resource when the run has ended.")
MAX_RESTARTS = flags.DEFINE_integer(
    "max_restarts", 5, "How often in a row the run may be started again without a new checkpoint.", lower_bound=0
)
POLL_SECONDS = flags.DEFINE_float("poll_seconds", 20.0, "Seconds between looks.", lower_bound=0.05)
WORKER = flags.DEFINE_string("worker", "0", "Which worker, or all.")
FOLLOW = flags.DEFINE_bool("follow", False, "Go on showing the log until Ctrl-C.")

OF_ALL = {"name", "zone", "project", "internal_ip", "dry_run"}
OF_WORD = {
    "create": {"accelerator", "spot", "reserved", "guaranteed", "runtime_version", "valid_until", "service_account"}
    | {"labels", "env", "keep", "max_restarts", "poll_seconds"},
    "logs": {"worker", "follow", "poll_seconds"},
    "ssh": {"worker"},
}
TAKES_COMMAND = ("create", "ssh")


def main(argv: list[str]) -> int:
    word = argv[1]
    _check_flags(word)
    from experiments import launch_words

    gcloud = Gcloud(print if DRY_RUN.value else None)
    slice_ = Slice(NAME.value or "", ZONE.value, PROJECT.value, INTERNAL_IP.value)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if word == "create":
            return _create(slice_, gcloud)
        gcloud.check()
        if word == "logs":
            with contextlib.suppress(KeyboardInterrupt):  # which ends --follow
                launch_words.logs(slice_, gcloud, WORKER.value, FOLLOW.value, POLL_SECONDS.value)
            return 0
        if word == "ssh":
            return launch_words.ssh(slice_, gcloud, WORKER.value, command_line.passed_on())
        words = {"status": launch_words.status, "stop": launch_words.stop, "delete": launch_words.delete,
                 "list": launch_words.list_all}  # fmt: skip
        words[word](slice_, gcloud)
        return 0
    except GcloudFailed as error:
        again = " All is left as it is; the same command goes on." if word == "create" else ""
        print(f"error: gcloud fails: {error}.{again}", file=sys.stderr)
        return EXIT_LEFT
    except KeyboardInterrupt:
        if word != "create":
            raise
        print(
            f"\ninterrupted: the resource {NAME.value} and what runs on it go on, and cost. The same command takes it "
            f"up again; python -m experiments.launch_tpu delete --name={NAME.value} --zone={ZONE.value} ends it",
            file=sys.stderr,
        )
        return EXIT_LEFT


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _check_flags(word: str) -> None:
    """Ends the process if a flag is missing, has no meaning for the word, or cannot have its value."""
    for name in ("zone",) if word == "list" else ("name", "zone"):
        if not flags.FLAGS[name].value:
            command_line.fail(f"needed: --{name}, such as --name=bert --zone=us-central2-b")
    if NAME.value and not re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", NAME.value):
        command_line.fail(f"--name={NAME.value}: give lower-case letters, digits and -, beginning with a letter")
    for name in sorted(set().union(*OF_WORD.values()) - OF_WORD.get(word, set())):
        if flags.FLAGS[name].present:
            words = " and ".join(other for other, names in OF_WORD.items() if name in names)
            command_line.fail(f"--{name} does nothing with {word}, only with {words}: leave it out")
    if command_line.passed_on() and word not in TAKES_COMMAND:
        command_line.fail(f"{word} takes nothing after --")
    if WORKER.value != "all" and not WORKER.value.isdecimal():
        command_line.fail(f"--worker={WORKER.value}: give a number, or all")
    if word == "logs" and WORKER.value == "all":
        command_line.fail("--worker=all: logs shows that of one worker: give its number")


def _create(slice_: Slice, gcloud: Gcloud) -> int:
    from experiments import launch_words
    from experiments.launch_check import check
    from tx_jax.launch import accelerators, snapshot
    from tx_jax.launch.launcher import Launcher
    from tx_jax.launch.request import EXTRAS, Request

    if not ACCELERATOR.value:
        command_line.fail("needed: --accelerator, such as --accelerator=v4-32")
    accelerators.flags_of(ACCELERATOR.value)
    tiers = [flag.name for flag in (SPOT, RESERVED, GUARANTEED) if flag.value]
    if len(tiers) > 1:
        command_line.fail(f"--{tiers[0]} and --{tiers[1]} exclude each other: give one of them")
    root = shipped.ROOT
    if shipped.INSTALLED:
        command_line.fail("create copies a clone of tx_jax to the VMs, and this is an installed one: run it in a clone")
    if Path.cwd().resolve() != root:
        command_line.fail(f"run it in {root}, the clone that is copied: paths after -- are relative to it")
    checked = check(command_line.passed_on(), snapshot.take(root))
    request = Request(
        slice_,
        ACCELERATOR.value,
        checked.arguments,
        checked.workdir,
        tier=tiers[0] if tiers else "",
        runtime=RUNTIME.value,
        valid_until=VALID_UNTIL.value,
        service_account=SERVICE_ACCOUNT.value,
        labels=_labels(),
        final_evaluation=checked.final_evaluation,
        extras=(*EXTRAS, *checked.extras),
        variables=_variables(),
    )
    launcher = Launcher(
        request,
        gcloud,
        root,
        say=launch_words.say,
        tell=launch_words.tell,
        keep=KEEP.value,
        max_restarts=MAX_RESTARTS.value,
        poll_seconds=POLL_SECONDS.value,
    )
    if DRY_RUN.value:
        launcher.show()
        return 0
    gcloud.check()
    launch_words.check_zone(slice_, gcloud, ACCELERATOR.value)
    return launcher.run()


def _labels() -> dict[str, str]:
    found = {}
    for entry in LABELS.value:
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}=[a-z0-9_-]{0,63}", entry):
            raise InputError(f"--labels={entry}: give KEY=VALUE of lower-case letters, digits, _ and -")
        key, _, value = entry.partition("=")
        found[key] = value
    return found


def _variables() -> dict[str, str]:
    for name in ENV.value:
        if name not in os.environ or not re.fullmatch(r"[A-Za-z_]\w*", name):
            shown = name.partition("=")[0]
            raise InputError(f"--env={shown}: there is no such variable here: give names alone, and set them before")
    return {name: os.environ[name] for name in ENV.value}


if __name__ == "__main__":
    command_line.run(main, WORDS)
