"""The long tables of faults, each fault a test, for `make test-long`. Their short forms: test_faults.py, and those of
tests/multihost.
"""

import pytest

from tests.faults import elastic, faults, hosts, run
from tests.faults.processes import Place, pretraining

pytestmark = pytest.mark.long

TABLE = [(name, number) for name, attempts in run.rows(seeds=20).items() for number in range(len(attempts))]
OF_HOSTS = [
    *(("survives", fault) for fault in hosts.kills(20, seed=0)),
    *(("stops", fault) for row in hosts.STOPPED.values() for fault in row),
    *(("ends", fault) for row in hosts.ENDED.values() for fault in row),
]


@pytest.fixture(scope="module")
def place(tiny_store, tmp_path_factory):
    return Place(tmp_path_factory.mktemp("table"), pretraining(tiny_store.path))


@pytest.mark.parametrize(("row", "number"), TABLE, ids=[f"{row}, {number}" for row, number in TABLE])
def test_a_fault_of_the_table(place, row, number):
    try:
        run.rows(seeds=20)[row][number](place)
    except faults.Impossible as error:
        pytest.skip(f"not possible here: {error}")


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    runs = hosts.Runs(tmp_path_factory.mktemp("hosts"))
    runs.prepare()
    return runs


@pytest.mark.parametrize(("kind", "fault"), OF_HOSTS, ids=[fault for _, fault in OF_HOSTS])
def test_a_fault_of_one_process_among_several(several, kind, fault):
    assert getattr(several, kind)(fault), several.problems[-1]


@pytest.fixture(scope="module")
def moving(tmp_path_factory):
    """A folder with a whole run and one that was stopped, and the batches of the whole one."""
    folder = tmp_path_factory.mktemp("elastic")
    return folder, *elastic.begin(folder)


@pytest.mark.parametrize("topology", elastic.OTHERS, ids=elastic.named)
def test_a_run_moves_to_another_topology_and_back(moving, topology):
    elastic.moved(*moving[:2], topology, moving[2])
