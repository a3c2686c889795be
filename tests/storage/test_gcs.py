"""Everything on gs://."""

import pytest

from tests.storage import gcs
from tests.storage.scenarios import Scenarios

pytestmark = [pytest.mark.long, pytest.mark.skipif(bool(gcs.MISSING), reason=gcs.WHY)]


class TestGcs(Scenarios):
    bucket, emulator, writes, late = "gs://bucket", gcs, "POST", "manifest.ocdbt"
