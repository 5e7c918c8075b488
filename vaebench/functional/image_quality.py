"""How like two images are: peak signal-to-noise ratio, structural similarity."""

import torch
from skimage.metrics import structural_similarity
from torch import Tensor

ROUNDING = 1 / (12 * 255**2)
"""The mean squared error of rounding to 8 bits, on the [0, 1] scale."""
GAUSSIAN, SMALLEST = 11, 7
"""The sides of SSIM's Gaussian window, and of the uniform one for images too small for it."""


def psnr(mse: Tensor) -> Tensor:
    """10 log10(1 / mse) in dB, of mean squared errors `mse` on the [0, 1] scale: of the same shape.

    An error below `ROUNDING`, 0 among them, counts as `ROUNDING`: no ratio is above 58.9 dB.
    """
    return -10 * mse.clamp_min(ROUNDING).log10()


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """The structural similarity of 8-bit images x and y (B, C, H, W), (B,) float64, at most 1: the mean over channels.

    Windows are Gaussian of sigma 1.5, 11 x 11; of images with a shorter side, uniform and 7 x 7. K1 = 0.01, K2 = 0.03,
    population covariances; the mean over windows that lie inside the image. Raises ValueError if a side is below 7.
    Source: Wang, Bovik, Sheikh & Simoncelli 2004, equations 13 and 17, as scikit-image computes it.
    """
    side = min(x.shape[-2:])
    if side < SMALLEST:
        raise ValueError(f"SSIM needs images of at least {SMALLEST} x {SMALLEST}, not {x.shape[-2]} x {x.shape[-1]}")
    return torch.tensor(
        [
            structural_similarity(
                one,
                other,
                data_range=255,
                channel_axis=0,
                win_size=GAUSSIAN if side >= GAUSSIAN else SMALLEST,
                gaussian_weights=side >= GAUSSIAN,
                sigma=1.5,
                use_sample_covariance=False,
            )
            for one, other in zip(x.cpu().numpy(), y.cpu().numpy(), strict=True)
        ],
        dtype=torch.float64,
    )
