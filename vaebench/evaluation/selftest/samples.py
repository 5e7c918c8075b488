"""Known answers about images and clouds: Frechet distances and their moments, similarity, distances, sets."""

import math
from collections.abc import Iterator
from functools import reduce

import torch

from vaebench.evaluation.selftest.answer import Answer, equal, rounding, worst
from vaebench.functional.clouds import chamfer, chamfer_matrix, earth_mover, set_match
from vaebench.functional.complexity import input_complexity
from vaebench.functional.frechet import frechet_distance, gaussian_distance, merge, moments
from vaebench.functional.image_quality import psnr, ssim


def frechet(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """Gaussians with shared axes, one direction of each empty: the sum of (m - n)^2 + (s - t)^2 over the axes.

    And moments by hand: 0, 2, 4 have mean 2 and variance 4; 1, 1, 4 mean 2 and variance 3; in parts as at once.
    """
    m, n, s, t = torch.randn(4, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    s[0] = t[1] = 0.0
    axes = torch.linalg.qr(torch.outer(m, n) + torch.diag(s + 3)).Q
    exact = float((m - n).square().sum() + (s.abs() - t.abs()).square().sum())
    found = gaussian_distance(axes @ m, axes * s**2 @ axes.T, axes @ n, axes * t**2 @ axes.T)
    yield Answer("frechet distance, shared axes", exact, found, 0.0, rounding(torch.float64, 100 * exact))
    features = torch.tensor([[0.0, 1.0], [2.0, 1.0], [4.0, 4.0]], dtype=torch.float64)
    whole, parts = moments(features), reduce(merge, map(moments, features.split([2, 1])))
    for name, made in (("at once", whole), ("merged", parts)):
        yield worst(f"frechet mean, {name}", torch.tensor([2.0, 2.0]), made.mean)
        yield worst(f"frechet covariance, {name}", torch.tensor([[4.0, 3.0], [3.0, 3.0]]), made.covariance)
        yield equal(f"frechet size, {name}", 3, made.size)
    one, two = moments(features[:, :1]), moments(features[:, 1:] + 5)
    yield equal("frechet distance, one feature", 25 + (4**0.5 - 3**0.5) ** 2, frechet_distance(one, two))


def image_quality(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """Two plain images: (2 a b + C) / (a^2 + b^2 + C) with C = 2.55^2, and 20 log10(255 / |a - b|)."""
    a, b, c = 100, 140, 2.55**2
    for side in (8, 28):
        x, y = (torch.full((1, 1, side, side), level, dtype=torch.uint8, device=device) for level in (a, b))
        exact = (2 * a * b + c) / (a**2 + b**2 + c)
        yield Answer(f"reconstruction ssim, plain {side} x {side} images", exact, float(ssim(x, y)), 0.0, 1e-9)
    exact = 20 * math.log10(255 / (b - a))
    found = float(psnr(torch.tensor(((b - a) / 255) ** 2, dtype=dtype, device=device)))
    yield Answer("reconstruction psnr, plain images", exact, found, 0.0, rounding(dtype, exact))
    nll, length = torch.tensor([8 * math.log(2)], dtype=torch.float64), torch.tensor([3.0], dtype=torch.float64)
    yield equal("regret complexity, 8 bits less a file of 3", 5.0, input_complexity(nll, length))


def clouds(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """Two clouds on a line, 0 and 1 to 3 and 0; sets of clouds of a point each, 0, 1, 10 to 1.2, 1.25, 0.1."""
    a, b = (torch.tensor([[[p, 0.0, 0.0] for p in ends]], dtype=torch.float64) for ends in ((0, 1), (3, 0)))
    yield equal("cloud distances, Chamfer", 0.5 + 2.0, chamfer(a, b)[0])
    yield equal("cloud distances, Chamfer in a matrix", 0.5 + 2.0, chamfer_matrix(a, b)[0, 0])
    yield equal("cloud distances, earth mover's", 1.0, earth_mover(a, b)[0])
    real, drawn = (torch.tensor(places, dtype=torch.float64) for places in ([0.0, 1, 10], [1.2, 1.25, 0.1]))
    within, across, among = ((x[:, None] - y).abs() for x, y in ((real, real), (real, drawn), (drawn, drawn)))
    found = set_match(within, across, among)
    yield equal("cloud samples, 1-NNA", 2 / 6, found.one_nna)
    yield equal("cloud samples, coverage", 2 / 3, found.coverage)
    yield equal("cloud samples, MMD", (0.1 + 0.2 + 8.75) / 3, found.mmd)
