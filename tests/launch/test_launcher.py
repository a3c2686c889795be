"""Launches against the stand-in of tests/launch/gcloud.py, with a training that takes no time."""

import dataclasses
import json
import subprocess
import tarfile

import pytest

from tests.launch import standin
from tx_jax.errors import InputError
from tx_jax.launch.gcloud import Gcloud, GcloudFailed


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    made = standin.make(tmp_path)
    for name, value in standin.environment(made).items():
        monkeypatch.setenv(name, value)
    return made


def test_a_run_that_is_preempted_lost_and_not_given_goes_on_until_it_is_done(cloud, monkeypatch):
    """FAILED, SUSPENDED, a worker that no longer answers, a VM that vanished, one that was started anew."""
    monkeypatch.setattr("tx_jax.launch.observing.UNREACHABLE_LOOKS", 2)
    cloud.plan(
        {"fail": "no more capacity in the zone"},
        {"fault": "15", "then": "preempt"},
        {"fault": "25", "then": "lose"},
        {"fault": "35", "then": "vanish"},
        {"fault": "45", "then": "reboot"},
    )
    (cloud.clone / "notes.txt").write_text("not added")
    (cloud.clone / "experiments/train.py").write_text(standin.TRAIN + "print('changed')\n")
    assert cloud.run("--steps=50", accelerator="v4-16", max_restarts=2) == 0
    assert cloud.resources == []
    assert cloud.file("gs://bucket/run/DONE").exists()
    said = "\n".join(cloud.said)
    for words in (
        "FAILED (no more capacity in the zone)",
        "SUSPENDED",
        "ACTIVE, but not reachable",
        "ACTIVE, but lost",
        "lost (ERROR: (gcloud) NOT_FOUND",
        "2 workers: killed",
        "copied although git does not know it: notes.txt",
    ):
        assert words in said, said
    assert [int(line.split()[-1]) for line in cloud.said if line.startswith("restart")] == [0, 10, 20, 30, 40]
    assert "worker 0 begins after 40" in "\n".join(cloud.log)
    assert "step 50" in cloud.log
    assert len(cloud.calls("create")) == 5
    record = cloud.file("gs://bucket/run/launch") / cloud.calls("create")[0][-2].partition("tx_jax-launch=")[2]
    kept = json.loads((record / "launch.json").read_text())
    assert kept["untracked"] == ["notes.txt"]
    assert kept["changed"] is True
    assert b"+print('changed')" in (record / "changes.patch").read_bytes()
    with tarfile.open(record / "tree.tar.gz") as archive:
        assert set(archive.getnames()) == {"notes.txt", "experiments/train.py"}


@pytest.mark.parametrize(("code", "ends"), [(2, 2), (1, 1), (75, 1)])
def test_how_a_run_ends(cloud, code, ends):
    """Bad input and failures end it; what can be continued is, until that brings no progress any more."""
    assert cloud.run("--fail_at=15", f"--code={code}", max_restarts=2) == ends
    assert cloud.resources == []
    starts = sum("begins after" in line for line in cloud.log)
    assert starts == (3 if code == 75 else 1)
    if starts > 1:
        assert "2 restarts brought no checkpoint after step 10: this is the end" in cloud.said


def test_a_resource_that_is_never_given(cloud):
    cloud.plan(*[{"fail": "quota"}] * 9)
    assert cloud.run(max_restarts=1) == 1
    assert len(cloud.calls("create")) == 2
    assert cloud.resources == []


def test_a_resource_that_is_not_given_in_time_is_not_asked_for_again(cloud):
    cloud.plan({"fail": "no capacity"})
    assert cloud.launcher(cloud.request(valid_until="12h")).run() == 1
    assert "the resource was not given within 12h" in cloud.said
    assert len(cloud.calls("create")) == 1
    assert "--valid-until-duration=12h" in cloud.calls("create")[0]
    assert cloud.resources == []


def test_interrupted_it_leaves_the_vm_running_and_the_same_command_takes_it_up(cloud):
    class Interrupted(Exception):
        pass

    def say(line):
        cloud.said.append(line)
        if "1 worker: running" in line:
            raise Interrupted

    request = cloud.request("--seconds=0.05", variables={"SECRET": "s3cret 'x'"})
    with pytest.raises(Interrupted):
        cloud.launcher(request, say=say).run()
    assert cloud.resources == ["bert"]
    with pytest.raises(InputError, match=r"something else: command: '.*--seconds=0.05' -> '.*--steps=41'"):
        cloud.launcher(dataclasses.replace(request, arguments=("--steps=41",))).run()
    with pytest.raises(InputError, match=r"tier: 'on demand' -> 'spot'; variables: \['SECRET'\] -> \[\]"):
        cloud.launcher(dataclasses.replace(request, tier="spot", variables={})).run()
    with pytest.raises(InputError, match="gs://bucket/other has no record of it"):
        cloud.launcher(dataclasses.replace(request, workdir="gs://bucket/other")).run()
    (cloud.clone / "experiments/train.py").unlink()  # what runs is what was copied
    assert cloud.launcher(request, keep=True).run() == 0
    assert len(cloud.calls("create")) == 1
    assert sum("begins after" in line for line in cloud.log) == 1
    assert "worker 0 begins after 0 s3cret 'x'" in cloud.log
    assert cloud.resources == ["bert"]
    record = next(cloud.file("gs://bucket/run/launch").iterdir())
    assert "s3cret" not in (record / "launch.json").read_text() + "".join(cloud.said)
    assert not any("s3cret" in part for call in cloud.calls() for part in call)
    assert cloud.launcher(request).run() == 0  # done already
    assert cloud.resources == []
    assert cloud.launcher(request).run() == 0  # and without a resource
    assert len(cloud.calls("create")) == 1


def test_a_run_that_is_done_goes_on_where_more_is_asked_for(cloud):
    assert cloud.run("--steps=10") == 0
    cloud.plan({"fault": "11", "then": "preempt"})  # DONE is still that of the shorter run
    assert cloud.run("--steps=20") == 0
    assert cloud.log[-1] == "step 20"
    assert [line for line in cloud.log if "begins" in line][-1].startswith("worker 0 begins after 10")


def test_a_resource_of_somebody_else_is_left_alone(cloud):
    Gcloud().run(cloud.request().slice.create(cloud.request().create_flags(), {"team": "x"}))
    with pytest.raises(InputError, match="no launcher made"):
        cloud.run()
    assert cloud.resources == ["bert"]


def test_a_failing_installation_is_repeated(cloud):
    cloud.plan({"break": [1, 3]})  # the first look at the VM, and the first step of the installation
    assert cloud.run() == 0
    said = "\n".join(cloud.said)
    assert "ACTIVE, but not reachable (ERROR: (gcloud) [/usr/bin/ssh] exited with return code [255].)" in said
    assert "the workers could not be set up: ERROR" in said
    assert "restart 1 of at most 5 after step 0" in said


def test_what_is_refused_before_anything_is_paid(cloud):
    cloud.plan({"refuse": "you have no quota"})
    with pytest.raises(InputError, match=r"gcloud refuses the request: .*you have no quota"):
        cloud.run()
    other = dataclasses.replace(cloud.request(), workdir="gs://nobody/run")
    with pytest.raises(InputError, match=r"--workdir=gs://nobody/run: gcloud cannot write there: .*404"):
        cloud.launcher(other).run()
    (cloud.root / "offline").touch()
    with pytest.raises(InputError, match="cannot reach the server"):
        cloud.run()
    subprocess.run(["rm", "-rf", cloud.clone / ".git"], check=True)
    (cloud.root / "offline").unlink()
    with pytest.raises(InputError, match="is no git clone"):
        cloud.run()


def test_gcloud_that_fails_in_the_middle_leaves_all_as_it_is(cloud, monkeypatch):
    monkeypatch.setattr("tx_jax.launch.launcher.FAILURES", 3)

    def say(line):
        cloud.said.append(line)
        if "1 worker: running" in line:
            (cloud.root / "offline").touch()

    with pytest.raises(GcloudFailed, match="cannot reach the server"):
        cloud.launcher(cloud.request("--seconds=0.05"), say=say).run()
    assert cloud.resources == ["bert"]
