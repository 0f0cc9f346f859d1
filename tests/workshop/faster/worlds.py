"""Small exact problems and a tiny random network, on which samplers are tried."""

import torch

from atelier.faster.targets import of_law, of_model
from painters import Gaussian, Mixture
from painters.models import Model
from painters.schedules import discrete


def _random(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _gaussian(seed):
    spread = _random(6, 6, seed=seed) / 3
    return Gaussian.of(_random(6, seed=seed + 1), spread @ spread.T)


GAUSSIAN = _gaussian(0)
MIXTURE = Mixture(torch.tensor([0.5, 0.3, 0.2]), tuple(_gaussian(seed) for seed in (10, 20, 30)))


def on_law(law, schedule, *, gaussian=None):
    return of_law("law", law, schedule, gaussian)


def on_network(**options):
    """A random UNet of 50 training times."""
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    network = UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 8), norm_num_groups=4,
        layers_per_block=1, down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    ).eval()  # fmt: skip
    alphas = (1 - torch.linspace(1e-3, 0.3, 50, dtype=torch.float64)).cumprod(0)
    cpu = torch.device("cpu")
    return of_model("tiny", Model(network, discrete(alphas), "v_prediction", (1, 8, 8), cpu, torch.float32), **options)
