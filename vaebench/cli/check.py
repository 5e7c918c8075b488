"""vaebench selftest and vaebench check: does this machine, this model keep its promises?"""

from pathlib import Path

import click

from vaebench.cli.common import (
    allow_code_option,
    as_json_option,
    data_option,
    dataset_option,
    device_option,
    find_card,
    model_option,
    options,
    weights_option,
)
from vaebench.evaluation import choice


@click.command()
@device_option
@click.option("--dtype", type=click.Choice(["float32", "float64"]), default="float32", show_default=True)
@as_json_option
@click.pass_context
def selftest(ctx: click.Context, device: str, dtype: str, as_json: bool) -> None:
    """Compare estimators with exact answers, on this machine; exit 1 if one is off.

    \b
    bounds         NLL, ELBO, rate, distortion, ESS, NLL at a tenth of the draws, bits/dim
    annealing      certified likelihoods in both directions; images there and back by bits back
    noise          that of a draw whatever the chunks; prior temperature
    distributions  Gaussian KL and density, decoupled prior, chains of groups, NVAE's residuals
    likelihoods    masses at all levels and edges, mixtures, narrowest scales, samples
    latents        KL in both directions, neighbours, leakage, mutual information
    images         Frechet distance, its moments and their merging, SSIM, PSNR, complexity
    clouds         Chamfer and earth mover's distances, 1-NNA, coverage, MMD
    scores         AUROC, AUPRC, FPR95 with ties, regret, TracIn, Wilson intervals
    codes          probe, neighbours' votes, consistency, agreement, disentanglement

    It does not cover networks of features (fid, fd-domain, fd-imagenet, LPIPS), pictures (gallery), training, or files.
    """
    import torch

    from vaebench.boards import text
    from vaebench.cli import tables as terminal
    from vaebench.core.device import torch_device
    from vaebench.evaluation import selftest as tests

    answers = list(tests.answers(torch_device(device), getattr(torch, dtype)))
    if as_json:
        terminal.print_json([{**a._asdict(), "error": a.error, "passed": a.passed} for a in answers])
    else:
        rows = [
            (a.estimator, f"{a.exact:.6g}", text.number(a.estimate, a.stderr), f"{a.error:.1f}", _result(a.passed))
            for a in answers
        ]
        headings = ("estimator", ">exact", ">estimate ± standard error", ">error in them", "result")
        terminal.print_table(headings, rows)
    ctx.exit(0 if all(a.passed for a in answers) else 1)


def _result(passed: bool) -> str:
    return "ok" if passed else "FAILED"


@click.command()
@options(model_option, dataset_option)
@click.option("--card", type=click.Path(path_type=Path), help="A card of your own, instead of --model.")
@click.option("--metric", "metrics", multiple=True, metavar="METRIC",
              help="Check this metric as well; can be given again.")  # fmt: skip
@options(weights_option, data_option, allow_code_option, as_json_option)
@click.pass_context
def check(
    ctx: click.Context, model: str | None, dataset: str | None, card: Path | None, metrics: tuple[str, ...],
    weights: Path | None, data: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Run the conformance suite on a card's model (with its weights, if it has any) and its dataset."""
    choice.check_names(metrics)
    found = find_card(model, dataset, card)
    from vaebench.cli import bar as progress
    from vaebench.cli import tables as terminal
    from vaebench.evaluation import api

    with progress.Bar() as bar:
        which = found.path or found.name
        results = api.check(which, found.dataset, metrics=metrics, data=data, weights=weights, progress=bar)
    if as_json:
        terminal.print_json([result._asdict() for result in results])
    else:
        rows = [(each.name, each.result, each.detail) for each in results]
        terminal.print_table(("promise", "result", "what was seen"), rows)
    ctx.exit(1 if any(result.failed for result in results) else 0)
