"""vaebench train."""

import dataclasses
from pathlib import Path

import click

from vaebench.cli.common import (
    SEED,
    allow_code_option,
    as_json_option,
    data_option,
    dataset_option,
    device_option,
    find_card,
    model_option,
    options,
)
from vaebench.core.errors import UserError
from vaebench.core.registry import load_dataset


@click.command()
@options(model_option, dataset_option)
@click.option("--card", type=click.Path(path_type=Path), help="A card of your own, instead of --model.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for weights, card and log.")
@click.option("--seed", type=SEED, help="Seed for training, instead of the card's.")
@click.option("--epochs", type=click.IntRange(1, 10**6), help="Epochs, instead of the card's.")
@click.option("--trajectory", type=click.IntRange(1, 10**4), metavar="N",
              help="Keep N checkpoints, evenly spaced, in a folder beside the weights.")  # fmt: skip
@options(data_option, device_option, allow_code_option, as_json_option)
@click.pass_context
def train(
    ctx: click.Context, model: str | None, dataset: str | None, card: Path | None, out: Path, seed: int | None,
    epochs: int | None, trajectory: int | None, data: Path | None, device: str, as_json: bool,
) -> None:  # fmt: skip
    """Train a card's model by its recipe. Interrupted, the same command resumes.

    A card of the family `classifier`, as in the zoo's folder `features`, gives what fd-domain measures with,
    in minutes and without resuming.
    """
    found = find_card(model, dataset, card)
    if found.training is None:
        raise UserError(f"card {found.id} has no [training] table, so it cannot be trained; add one with epochs = N")
    changes = {name: value for name, value in (("seed", seed), ("epochs", epochs)) if value is not None}
    found = dataclasses.replace(found, training=dataclasses.replace(found.training, **changes))  # type: ignore[arg-type]
    from vaebench.cli import bar as progress
    from vaebench.cli import tables as terminal
    from vaebench.core.device import torch_device
    from vaebench.models import classifiers as features
    from vaebench.training import classifiers
    from vaebench.training import loop as training

    content = load_dataset(found.dataset, data)
    with progress.Bar(ctx.find_root().params["debug"]) as bar:
        if found.family == features.FAMILY and trajectory is not None:
            raise UserError(f"card {found.id} is of a classifier, which keeps no trajectory; leave out --trajectory")
        if found.family == features.FAMILY:
            trained = classifiers.train(found, content, out, device=torch_device(device), report=bar.report)
        else:
            trained = training.train(
                found, content, out, device=torch_device(device), report=bar.report, checkpoints=trajectory or 0
            )
    assert trained.trained is not None
    result = {"card": str(out / f"{found.name}.toml"), **dataclasses.asdict(trained.trained)}
    if as_json:
        terminal.print_json(result)
    else:
        terminal.print_table(("", ""), [(key, str(value)) for key, value in result.items()])
