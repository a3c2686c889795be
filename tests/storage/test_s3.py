"""Everything on s3://."""

import pytest

from tests.storage import s3
from tests.storage.scenarios import Scenarios

pytestmark = [pytest.mark.long, pytest.mark.skipif(bool(s3.MISSING), reason=s3.WHY)]


class TestS3(Scenarios):
    bucket, emulator, writes, late = "s3://bucket", s3, "PUT", "_METADATA"
