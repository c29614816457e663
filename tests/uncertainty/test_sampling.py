"""What stochastic passes switch on, and what is kept of them."""

import numpy as np
import pytest
import torch
from torch import nn

from nnunet_cascade.errors import DropoutError
from nnunet_cascade.uncertainty.sampling import Moments, stochastic


def network(probability=0.5):
    return nn.Sequential(
        nn.Conv3d(1, 4, 1), nn.BatchNorm3d(4), nn.Dropout3d(probability), nn.Conv3d(4, 2, 1), nn.Dropout3d(0.0)
    )


@pytest.mark.parametrize("training", [True, False])
def test_only_active_dropouts_are_switched_on_and_every_mode_is_restored(training):
    net = network().train(training)
    net[0].train(not training)
    before = [module.training for module in net.modules()]
    with stochastic(net):
        assert [module.training for module in net] == [False, False, True, False, False]
    assert [module.training for module in net.modules()] == before


def test_modes_are_restored_after_an_error():
    net = network().train()
    with pytest.raises(RuntimeError, match="in the middle"), stochastic(net):
        raise RuntimeError("in the middle")
    assert all(module.training for module in net.modules())


def test_batch_statistics_do_not_move_while_sampling():
    net = network().train()
    before = net[1].running_mean.clone()
    with torch.no_grad(), stochastic(net):
        net(torch.randn(2, 1, 4, 4, 4))
    assert torch.equal(net[1].running_mean, before)


def test_a_network_without_active_dropout_is_refused():
    with pytest.raises(DropoutError, match="no active dropout"), stochastic(network(0.0)):
        pass


def test_moments_are_mean_and_population_variance():
    samples = torch.rand(7, 3, 4, dtype=torch.float64)
    moments = Moments()
    for sample in samples:
        moments.add(sample)
    np.testing.assert_allclose(moments.means()[0], samples.mean(0), rtol=1e-6)
    np.testing.assert_allclose(moments.variance(), np.var(samples.numpy(), axis=0), atol=1e-6)


def test_equal_samples_have_no_variance():
    moments = Moments()
    for _ in range(20):
        moments.add(torch.full((3,), 0.3, dtype=torch.float16))
    assert float(moments.variance().max()) == pytest.approx(0, abs=1e-7)
    assert float(moments.variance().min()) >= 0


def test_moments_of_nothing_are_an_error():
    with pytest.raises(ValueError, match="add one first"):
        Moments().means()
