"""The table of what to do next."""

import pytest

from tx_jax.launch.lifecycle import Action, Resource, Run, next_action, run_of

WAITS = [Resource.CREATING, Resource.ACCEPTED, Resource.WAITING_FOR_RESOURCES, Resource.PROVISIONING,
         Resource.SUSPENDING, Resource.UNKNOWN]  # fmt: skip
CASES = [
    (Resource.NONE, Run.NOT_STARTED, Action.CREATE),
    (Resource.NONE, Run.DONE, Action.FINISH),
    *((state, Run.NOT_STARTED, Action.WAIT) for state in WAITS),
    (Resource.DELETING, Run.DONE, Action.WAIT),
    (Resource.SUSPENDED, Run.NOT_STARTED, Action.REPLACE),
    (Resource.SUSPENDED, Run.DONE, Action.FINISH),
    (Resource.FAILED, Run.NOT_STARTED, Action.REPLACE),
    (Resource.ACTIVE, Run.NOT_STARTED, Action.START),
    (Resource.ACTIVE, Run.STOPPED, Action.START),
    (Resource.ACTIVE, Run.KILLED, Action.START),
    (Resource.ACTIVE, Run.RUNNING, Action.FOLLOW),
    (Resource.ACTIVE, Run.UNREACHABLE, Action.WAIT),
    (Resource.ACTIVE, Run.LOST, Action.REPLACE),
    (Resource.ACTIVE, Run.HELD, Action.LEAVE),
    (Resource.ACTIVE, Run.BAD_INPUT, Action.GIVE_UP),
    (Resource.ACTIVE, Run.FAILED, Action.GIVE_UP),
    (Resource.ACTIVE, Run.DONE, Action.FINISH),
]


@pytest.mark.parametrize(("resource", "run", "action"), CASES)
def test_the_next_action(resource, run, action):
    assert next_action(resource, run) == action


def test_every_state_has_a_case_and_every_pair_an_action():
    assert {case[0] for case in CASES} == set(Resource)
    assert {case[1] for case in CASES} == set(Run)
    assert {case[2] for case in CASES} == set(Action)
    for resource in Resource:
        for run in Run:
            assert isinstance(next_action(resource, run), Action)


def test_what_a_user_did_meanwhile_counts():
    assert next_action(Resource.ACTIVE, Run.HELD, asked=True) == Action.START
    assert next_action(Resource.NONE, Run.NOT_STARTED, deleted=True) == Action.LEAVE
    assert next_action(Resource.NONE, Run.DONE, deleted=True) == Action.FINISH
    assert next_action(Resource.FAILED, Run.NOT_STARTED, limited=True) == Action.GIVE_UP
    assert next_action(Resource.FAILED, Run.DONE, limited=True) == Action.FINISH


@pytest.mark.parametrize(
    ("workers", "run"),
    [
        (["none", "none"], Run.NOT_STARTED),
        (["running", "exit 0"], Run.RUNNING),
        (["exit 0", "exit 0"], Run.DONE),
        (["exit 75", "exit 0"], Run.STOPPED),
        (["exit 1", "exit 2"], Run.BAD_INPUT),
        (["exit 1", "gone"], Run.KILLED),
        (["exit 1", "exit 137"], Run.KILLED),
        (["exit 1", "exit 0"], Run.FAILED),
        (["exit 3"], Run.FAILED),
        (["held running", "held exit 75"], Run.RUNNING),
        (["held exit 75", "held exit 75"], Run.HELD),
        (["held exit 0"], Run.DONE),
    ],
)
def test_the_run_from_its_workers(workers, run):
    assert run_of(workers) == run


def test_a_worker_that_hangs_counts_as_killed_in_the_end():
    assert run_of(["running", "exit 1"]) == Run.RUNNING
    assert run_of(["running", "exit 1"], overdue=True) == Run.KILLED
