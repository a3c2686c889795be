"""What to do next, from the state of the queued resource and that of the run on it: a table.

States of resources are those of Cloud TPU's API (QueuedResourceState.State). One that is SUSPENDED or FAILED is never
queued again, and counts against the quota until it is deleted.
"""

import enum
from collections.abc import Collection


class Resource(enum.Enum):
    """State of a queued resource."""

    NONE = "none"  # there is none
    CREATING = "CREATING"
    ACCEPTED = "ACCEPTED"
    WAITING_FOR_RESOURCES = "WAITING_FOR_RESOURCES"
    PROVISIONING = "PROVISIONING"
    ACTIVE = "ACTIVE"
    SUSPENDING = "SUSPENDING"
    SUSPENDED = "SUSPENDED"
    FAILED = "FAILED"
    DELETING = "DELETING"
    UNKNOWN = "STATE_UNSPECIFIED"


class Run(enum.Enum):
    """State of the run on all workers."""

    NOT_STARTED = "not started"
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped and saved"  # exit code 75
    KILLED = "killed"  # by a signal, or the VM was started anew
    HELD = "stopped by the word stop"
    BAD_INPUT = "bad input"  # exit code 2
    FAILED = "failed"
    UNREACHABLE = "not reachable"  # the VM is said to be there
    LOST = "lost"  # a VM is gone, or was not reachable for too long


class Action(enum.Enum):
    """What the launcher does next."""

    CREATE = "create the resource"
    WAIT = "wait"
    START = "copy the code, install and start"
    FOLLOW = "follow the log"
    REPLACE = "delete the resource and create it anew"
    FINISH = "delete the resource: the run is done"
    GIVE_UP = "delete the resource, and say why"
    LEAVE = "leave all as it is"


_ANY = None
# The first row that fits counts.
TABLE: tuple[tuple[Collection[Resource] | None, Collection[Run] | None, Action], ...] = (
    ({Resource.DELETING}, _ANY, Action.WAIT),
    (_ANY, {Run.DONE}, Action.FINISH),
    (_ANY, {Run.BAD_INPUT, Run.FAILED}, Action.GIVE_UP),
    ({Resource.NONE}, _ANY, Action.CREATE),
    ({Resource.SUSPENDED, Resource.FAILED}, _ANY, Action.REPLACE),
    ({Resource.ACTIVE}, {Run.LOST}, Action.REPLACE),
    ({Resource.ACTIVE}, {Run.NOT_STARTED, Run.STOPPED, Run.KILLED}, Action.START),
    ({Resource.ACTIVE}, {Run.RUNNING}, Action.FOLLOW),
    ({Resource.ACTIVE}, {Run.HELD}, Action.LEAVE),
    # CREATING to PROVISIONING, SUSPENDING, whatever state may be added, and a worker that does not answer.
    (_ANY, _ANY, Action.WAIT),
)


def next_action(
    resource: Resource, run: Run, *, asked: bool = False, deleted: bool = False, limited: bool = False
) -> Action:
    """The next action.

    Args:
      asked: whether a user asks for it right now, so that a run that was held goes on.
      deleted: whether the resource was there before in this launch, so that whoever deleted it wanted an end.
      limited: whether it was said how long to wait for the resource: one that FAILED is then not asked for again.
    """
    if resource == Resource.NONE and deleted and run != Run.DONE:
        return Action.LEAVE
    if resource == Resource.ACTIVE and run == Run.HELD and asked:
        return Action.START
    if resource == Resource.FAILED and limited and run != Run.DONE:
        return Action.GIVE_UP
    return next(
        action
        for resources, runs, action in TABLE
        if (resources is None or resource in resources) and (runs is None or run in runs)
    )


def run_of(workers: Collection[str], *, overdue: bool = False) -> Run:
    """The state of the run from what each worker says: `none`, `running`, `gone`, `exit CODE`, any of these after
    `held`.

    One that still runs is waited for. One that was killed decides over others, which end with code 1 because of it.

    Args:
      overdue: whether those that still run should have ended with the others, so that they count as killed.
    """
    if overdue:
        workers = [said.replace("running", "gone") for said in workers]
    states = {_of_worker(worker.removeprefix("held ")) for worker in workers}
    order = (Run.RUNNING, Run.BAD_INPUT, Run.KILLED, Run.FAILED, Run.STOPPED, Run.NOT_STARTED, Run.DONE)
    state = next(state for state in order if state in states)
    if any(worker.startswith("held ") for worker in workers) and state in (Run.KILLED, Run.STOPPED, Run.NOT_STARTED):
        return Run.HELD
    return state


def _of_worker(said: str) -> Run:
    plain = {"none": Run.NOT_STARTED, "running": Run.RUNNING, "gone": Run.KILLED}
    if said in plain:
        return plain[said]
    code = int(said.removeprefix("exit "))
    if code > 128:  # the shell's for a signal
        return Run.KILLED
    return {0: Run.DONE, 2: Run.BAD_INPUT, 75: Run.STOPPED}.get(code, Run.FAILED)
