"""MONAI, whose networks the tests build."""

import warnings

import pytest


@pytest.fixture(scope="session", autouse=True)
def monai():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of its versions warn on import
        import monai.networks.nets  # noqa: PLC0415
    return monai
