"""Builders that the tests of reports share."""

import pytest
from small_run import SmallRun


@pytest.fixture
def small_run(tmp_path):
    """A folder of results to write small cases into."""
    return SmallRun(tmp_path)
