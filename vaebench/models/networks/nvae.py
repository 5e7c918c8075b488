"""NVAE's network: a bottom-up tower of features, and a top-down tower whose state each latent group reads and moves.

Names of modules are those of the release's state dict. Source: Vahdat & Kautz 2020 (arXiv 2007.03898), figure 2.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor, nn

from vaebench.core.tables import within
from vaebench.models.networks.nvae_cells import ARCHS, PLACES, Arch, Cell, Combiner, Conv, Direction
from vaebench.models.networks.nvae_flow import FlowPair, GroupFlow

CLAMP, SMALLEST_SCALE = 5.0, 0.01
NORMAL: tuple[Direction, ...] = ("normal",)
WIDEST, MOST_CELLS = 2**16, 2000  # what a card may ask for; the release's largest have 2048 and some 200
INFERENCE = ("stem", "pre_process", "enc_tower", "enc0", "enc_sampler", "nf_cells")
"""The parts that q(z|x) depends on and p(x, z) does not."""


@dataclass(frozen=True)
class Architecture:
    """The network's shape.

    `groups` are the latent groups of the highest resolution; each scale below it has as many, or with `adaptive` half
    of those above, at least `min_groups`. `latent` is the channels of a group; `encoder_cells` and `decoder_cells` are
    for each group; before and after them come `blocks` halvings and doublings, of `pre_cells` and `post_cells` each.
    `flows` are pairs of autoregressive shifts for each group. `residual` gives q relative to p. `arch` names the
    operations of all cells; `ops` changes them at "pre", "enc", "dec" or "post".
    """

    channels: int = 32
    decoder_channels: int | None = None
    scales: int = 2
    groups: int = 2
    adaptive: bool = False
    min_groups: int = 1
    latent: int = 20
    blocks: int = 1
    pre_cells: int = 2
    post_cells: int = 2
    encoder_cells: int = 2
    decoder_cells: int = 2
    flows: int = 0
    squeeze_excitation: bool = True
    residual: bool = True
    arch: Arch = "res_mbconv"
    ops: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        within(
            self, channels=(1, WIDEST), latent=(1, 1024), decoder_channels=(1, WIDEST), scales=(1, 16), blocks=(1, 16)
        )
        within(self, groups=(1, 256), min_groups=(1, 256), pre_cells=(1, 64), post_cells=(1, 64))
        within(self, encoder_cells=(0, 64), decoder_cells=(0, 64), flows=(0, 64))
        cells = sum(self.groups_per_scale) * (self.encoder_cells + self.decoder_cells + 2 * self.flows)
        if (cells := cells + self.blocks * (self.pre_cells + self.post_cells)) > MOST_CELLS:
            raise ValueError(f"scales, groups and cells make {cells} cells, which should be at most {MOST_CELLS}")
        if unknown := set(self.ops) - set(PLACES):
            raise ValueError(f"ops = {sorted(unknown)} should be of {', '.join(PLACES)}")
        for place, names in self.ops.items():
            if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
                raise ValueError(f"ops: {place} = {names!r} should be a list of operations")

    def operations(self, place: str) -> tuple[str, ...]:
        """The operations of the cells at `place`."""
        return tuple(self.ops.get(place, ARCHS[self.arch][place]))

    @property
    def groups_per_scale(self) -> tuple[int, ...]:
        """From the highest resolution to the lowest."""
        counts = [self.groups]
        while len(counts) < self.scales:
            counts.append(max(self.min_groups, counts[-1] // 2) if self.adaptive else counts[-1])
        return tuple(counts)

    @property
    def vanilla(self) -> bool:
        """One group: there are no towers then."""
        return self.scales == self.groups == 1

    def cells(self, place: str, width: int, *kinds: Direction) -> list[nn.Module]:
        """Cells of these kinds for `width` channels and, after one that halves or doubles, twice or half as many."""
        cells: list[nn.Module] = []
        for kind in kinds:
            cells.append(Cell(width, kind, self.operations(place), self.squeeze_excitation))
            width = {"normal": width, "down": 2 * width, "up": width // 2}[kind]
        return cells


def soft_normal(raw: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of the soft-clamped normal of `raw`, whose last axis but two holds means, then log s.

    mean = 5 tanh(m / 5), sigma = (exp(5 tanh(l / 5)) + 0.01) temperature, as the release has it.
    """
    mean, log_scale = (CLAMP * torch.tanh(_precise(raw) / CLAMP)).chunk(2, dim=-3)
    return mean, 2 * (log_scale.exp() + SMALLEST_SCALE).log() + 2 * math.log(temperature)


def _precise(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _encoder(a: Architecture, down: int, up: int) -> list[nn.Module]:
    """Cells and the combiner of each group, from the highest resolution down; the last group has no combiner."""
    parts: list[nn.Module] = []
    for scale, count in enumerate(a.groups_per_scale):
        width = 2 ** (a.blocks + scale)
        for _ in range(count):
            parts += a.cells("enc", down * width, *NORMAL * a.encoder_cells)
            parts.append(Combiner(up * width, down * width))
        parts += a.cells("enc", down * width, "down") if scale + 1 < a.scales else []
    return parts[:-1]


def _decoder(a: Architecture, up: int) -> list[nn.Module]:
    """Cells and the combiner of each group, from the lowest resolution up; the first group has no cells."""
    parts: list[nn.Module] = []
    for scale, count in enumerate(a.groups_per_scale[::-1]):
        width = up * 2 ** (a.blocks + a.scales - 1 - scale)
        for group in range(count):
            parts += a.cells("dec", width, *NORMAL * (a.decoder_cells if scale or group else 0))
            parts.append(Combiner(width + a.latent, width))
        parts += a.cells("dec", width, "up") if scale + 1 < a.scales else []
    return parts


@final
class Network(nn.Module):
    """From centred images (B, colours, H, W) to features, from features and latents to `outputs` channels.

    `side` is H = W after padding, a multiple of 2 for each halving (ValueError otherwise). A state is (S or 1, B, C, h,
    w); groups are numbered top-down, from the lowest resolution.
    """

    def __init__(self, a: Architecture, colours: int, side: int, outputs: int) -> None:
        super().__init__()
        self.architecture = a
        up, down = a.decoder_channels or a.channels, a.channels
        halvings, counts = a.blocks + a.scales - 1, a.groups_per_scale[::-1]
        top = 2**halvings
        if side % top:
            raise ValueError(f"{halvings} halvings need images whose side is a multiple of {top}, not {side}")
        widths = [top // 2**scale for scale, count in enumerate(counts) for _ in range(count)]
        self.prior_ftr0 = nn.Parameter(torch.rand(up * top, side // top, side // top))
        self.stem = Conv(colours, down, 3)
        before: tuple[Direction, ...] = (*NORMAL * (a.pre_cells - 1), "down")
        after: tuple[Direction, ...] = ("up", *NORMAL * (a.post_cells - 1))
        self.pre_process = nn.Sequential(*a.cells("pre", down, *before * a.blocks))
        self.enc_tower = nn.ModuleList([] if a.vanilla else _encoder(a, down, up))
        self.enc0 = nn.Sequential(nn.ELU(), Conv(down * top, down * top, 1), nn.ELU())
        self.enc_sampler = nn.ModuleList(Conv(down * width, 2 * a.latent, 3) for width in widths)
        self.dec_sampler = nn.ModuleList(nn.Sequential(nn.ELU(), Conv(up * w, 2 * a.latent, 1)) for w in widths[1:])
        self.nf_cells = nn.ModuleList(FlowPair(a.latent) for _ in range(a.flows * len(widths)))
        self.dec_tower = nn.ModuleList([] if a.vanilla else _decoder(a, up))
        self.stem_decoder = Conv(a.latent, up * top, 1) if a.vanilla else None
        self.post_process = nn.Sequential(*a.cells("post", up * 2**a.blocks, *after * a.blocks))
        self.image_conditional = nn.Sequential(nn.ELU(), Conv(up, outputs, 3))
        self.sizes = [side // width for width in widths]
        self.meets = [i for i, part in enumerate(self.enc_tower) if isinstance(part, Combiner)]
        self.joins = [i for i, part in enumerate(self.dec_tower) if isinstance(part, Combiner)]
        self.row = max(6 * up * widths[-1] * self.sizes[-1] ** 2, 3 * up * side**2, outputs * side**2)
        """About how many numbers the largest activation of one draw has."""

    @property
    def bijections(self) -> tuple[GroupFlow, ...]:
        """Each group's flow; empty where there are no flows."""
        n, pairs = self.architecture.flows, [pair for pair in self.nf_cells if isinstance(pair, FlowPair)]
        return tuple(GroupFlow(tuple(pairs[i : i + n])) for i in range(0, len(pairs), max(n, 1)))

    def features(self, x: Tensor) -> tuple[Tensor, ...]:
        """What each group's posterior reads of x (B, colours, H, W), top-down: (B, C, h, w) each."""
        s = self.pre_process(self.stem(x.to(self.prior_ftr0.dtype)))
        met: list[Tensor] = []
        for part in self.enc_tower:
            if isinstance(part, Combiner):
                met.append(s)
            else:
                s = part(s)
        return (self.enc0(s), *reversed(met))

    def start(self, batch: int) -> Tensor:
        """The first group's state, (1, B, C, h, w)."""
        return self.prior_ftr0.expand(1, batch, -1, -1, -1)

    def prior(self, group: int, state: Tensor) -> Tensor:
        """Raw means and log-scales of p(z_g | z_<g), (S or 1, B, 2 L, h, w); zeros for the first group."""
        if group == 0:
            size, width = self.sizes[0], 2 * self.architecture.latent
            return self.prior_ftr0.new_zeros(1, state.shape[1], width, size, size)
        raw: Tensor = self.dec_sampler[group - 1](state.flatten(0, 1))
        return raw.view(*state.shape[:2], *raw.shape[1:])

    def posterior(self, group: int, feature: Tensor, state: Tensor) -> Tensor:
        """Raw means and log-scales of q(z_g | z_<g, x), (S or 1, B, 2 L, h, w)."""
        if group == 0:
            first: Tensor = self.enc_sampler[0](feature)
            return first[None]
        moved = self.enc_tower[self.meets[-group]](state.flatten(0, 1))
        met = feature + moved.view(*state.shape[:2], *moved.shape[1:])
        raw: Tensor = self.enc_sampler[group](met.flatten(0, 1))
        raw = raw.view(*state.shape[:2], *raw.shape[1:])
        return raw + self.prior(group, state) if self.architecture.residual else raw

    def absorb(self, group: int, state: Tensor, z: Tensor) -> Tensor:
        """The state of the next group, or what is decoded: (S, B, C, h, w), from z_g (S, B, L, h, w)."""
        value = z.to(self.prior_ftr0.dtype)
        if self.stem_decoder is not None:
            s: Tensor = self.stem_decoder(value.flatten(0, 1))
        else:
            joined = torch.cat([state.expand(*z.shape[:2], -1, -1, -1), value], 2)
            end = self.joins[group + 1] if group + 1 < len(self.joins) else len(self.dec_tower)
            s = joined.flatten(0, 1)
            for i in range(self.joins[group], end):
                s = self.dec_tower[i](s)
        return s.view(*z.shape[:2], *s.shape[1:])

    def decode(self, state: Tensor) -> Tensor:
        """The decoder's output (S, B, outputs, H, W) of the state after the last group."""
        raw: Tensor = _precise(self.image_conditional(self.post_process(state.flatten(0, 1))))
        return raw.view(*state.shape[:2], *raw.shape[1:])
