from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.phantom.patient import draw_patient
from nnunet_cascade.phantom.settings import FIELD_OF_VIEW_MM

CT_HU = (-533.937, 469.521)
"""Mean and deviation of the phantom of seed 11 without noise, in HU."""


def test_the_same_seed_gives_the_same_bits(phantom_of):
    first, again = phantom_of(11, noise_hu=20.0), phantom_of.__wrapped__(11, noise_hu=20.0)
    assert first is not again
    for name in ("ct", "tumors", "lungs", "heart", "distractors"):
        assert getattr(first, name).tobytes() == getattr(again, name).tobytes()
    assert first.tumor_facts == again.tumor_facts
    assert first.distractor_facts == again.distractor_facts


def test_a_seed_stays_the_patient_that_it_was(phantom_of):
    """Figures in the docs are of phantoms by seed; processors may round a voxel otherwise."""
    phantom = phantom_of(11)
    voxels = {name: np.count_nonzero(getattr(phantom, name)) for name in ("lungs", "heart", "tumors", "distractors")}
    assert voxels == pytest.approx({"lungs": 15812, "heart": 1983, "tumors": 177, "distractors": 153}, abs=2)
    assert (phantom.ct.mean(dtype=np.float64), phantom.ct.std(dtype=np.float64)) == pytest.approx(CT_HU, abs=0.005)


def test_another_seed_gives_another_patient(phantom_of):
    one, other = phantom_of(11), phantom_of(12)
    assert not np.array_equal(one.lungs, other.lungs)
    assert not np.array_equal(one.ct, other.ct)


def test_the_number_of_lesions_changes_nothing_else(phantom_of):
    healthy, ill = phantom_of(13, tumors=(0, 0), distractors=(0, 0)), phantom_of(13, tumors=(2, 2))
    np.testing.assert_array_equal(healthy.lungs, ill.lungs)
    untouched = np.abs(healthy.ct - ill.ct) < 1
    assert untouched.mean() > 0.97


def test_noise_has_the_given_deviation_and_no_bias(phantom_of):
    noise = (phantom_of(11, noise_hu=20.0).ct - phantom_of(11).ct)[phantom_of(11).heart]
    assert noise.std() == pytest.approx(20, abs=1.5)
    assert noise.mean() == pytest.approx(0, abs=2)


@pytest.mark.parametrize("seed", range(500, 508))
def test_lungs_and_heart_have_the_size_and_side_of_an_adult_s(phantom_of, litres_of, seed):
    phantom = phantom_of(seed)
    right, left = (litres_of(phantom.lungs == label, phantom.grid) for label in (1, 2))
    assert 2 < right + left < 8
    assert right > left
    assert 0.25 < litres_of(phantom.heart, phantom.grid) < 0.8
    middle = phantom.ct.shape[2] / 2
    assert np.argwhere(phantom.lungs == 1)[:, 2].max() < middle < np.argwhere(phantom.lungs == 2)[:, 2].min()
    assert np.argwhere(phantom.heart)[:, 2].mean() > middle


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**31))
def test_every_patient_fits_the_field_of_view(seed):
    patient = draw_patient(seed)
    assert patient.body_half_width_mm < FIELD_OF_VIEW_MM[0] / 2
    assert abs(patient.body_y_mm) + patient.body_half_depth_mm < FIELD_OF_VIEW_MM[1] / 2
    assert patient.apex_z_mm < FIELD_OF_VIEW_MM[2] / 2


@pytest.mark.parametrize("wrong", [{"apex_z_mm": -200.0}, {"heart_mm": (-20.0, 0.0, 0.0)}])
def test_a_patient_upside_down_or_mirrored_is_refused(wrong):
    with pytest.raises(SettingsError):
        replace(draw_patient(0), **wrong)
