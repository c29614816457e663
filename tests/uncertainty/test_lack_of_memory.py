"""What happens where a device lacks memory, and networks in bfloat16."""

import gc
import weakref

import numpy as np
import pytest
import torch
from builders.sampled_networks import PATCH, dropping, initialized, plain

from nnunet_cascade.errors import DeviceError
from nnunet_cascade.uncertainty.deterministic import DeterministicUncertaintyPredictor
from nnunet_cascade.uncertainty.predictor import MonteCarloPredictor
from nnunet_cascade.uncertainty.sliding_window import SlidingWindowPredictor

CPU = torch.device("cpu")
KINDS = {
    "plain": lambda: SlidingWindowPredictor(device=CPU, step_size=0.5, mirroring=False),
    "observed": lambda: DeterministicUncertaintyPredictor(device=CPU, mirroring=False),
    "sampled": lambda: MonteCarloPredictor(mc_samples=3, device=CPU),
}


class Scarce(torch.nn.Module):
    """A network for which there is no memory in some of its passes."""

    def __init__(self, network, lacking):
        super().__init__()
        self.network, self.lacking, self.passes, self.held = network, lacking, 0, []
        self.out_channels = 2

    def __getitem__(self, _):
        return self

    def forward(self, x):
        result = self.network(x)
        self.passes += 1
        if self.passes in self.lacking:
            activation = torch.zeros(8)
            self.held.append(weakref.ref(activation))
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.\nTried to allocate 9 GiB")
        assert all(reference() is None for reference in self.held), "the first try still holds its activations"
        return result


def predicted(kind, *lacking):
    torch.manual_seed(0)
    made = initialized(KINDS[kind](), Scarce(dropping(), lacking))
    made.perform_everything_on_device = True  # as on CUDA
    torch.manual_seed(5)
    image = torch.randn(1, 13, 9, 8, generator=torch.Generator().manual_seed(1))
    gc.collect()
    return made, made.predict_logits_from_preprocessed_data(image)


@pytest.mark.parametrize("kind", KINDS)
def test_a_first_lack_of_memory_is_noted_and_changes_nothing(kind, capsys, caplog):
    plenty, expected = predicted(kind)
    made, found = predicted(kind, 5)  # with the sums of a window already there
    assert torch.equal(found, expected)
    assert (plenty.moved_results, made.moved_results) == (False, True)
    assert "lacks memory for the results" in caplog.text
    capsys.readouterr()


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_one_is_one_clear_line(kind, capsys):
    with pytest.raises(
        DeviceError, match=r"cpu has too little memory .*Tried to allocate 9 GiB.*use -device cpu"
    ) as caught:
        predicted(kind, 1, 2)
    assert "\n" not in str(caught.value)
    capsys.readouterr()


@pytest.mark.parametrize("kind", KINDS)
def test_networks_in_bfloat16_are_near_those_in_float32_and_moments_stay_float32(kind):
    network, results = plain(), []
    network[1].p = 1e-12 if kind == "sampled" else 0.0
    for half in (False, True):
        seen = []
        hook = network[3].register_forward_hook(lambda _m, _i, out, seen=seen: seen.append(out.dtype))
        made = initialized(KINDS[kind](), network)
        made.half_precision = half
        results.append(made.predict_logits_from_preprocessed_data(torch.ones(1, *PATCH)).float().numpy())
        hook.remove()
        assert set(seen) == {torch.bfloat16 if half else torch.float32}
    np.testing.assert_allclose(results[1], results[0], atol=0.02)
    assert kind != "sampled" or np.abs(results[1][2:] - results[1][:2] ** 2).max() < 1e-6
