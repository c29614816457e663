"""Builders that the tests of reports share."""

import threading

import pytest
from builders.drawn_figures import write_drawn
from builders.figure_pixels import Drawn
from builders.small_run import SmallRun

from nnunet_cascade.report.viewing.server import ReportServer


@pytest.fixture
def small_run(tmp_path):
    """A folder of results to write small cases into."""
    return SmallRun(tmp_path)


@pytest.fixture(scope="session")
def request_of(tmp_path_factory):
    return write_drawn(tmp_path_factory.mktemp("drawn"))


@pytest.fixture(scope="session")
def drawn(request_of):
    return Drawn(request_of)


@pytest.fixture
def own(tmp_path):
    """A case whose files a test may spoil."""
    return write_drawn(tmp_path)


@pytest.fixture(scope="module")
def server(report):
    """The `report` of a module, served."""
    with ReportServer(report) as serving:
        thread = threading.Thread(target=serving.serve_forever, daemon=True)
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()
