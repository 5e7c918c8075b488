"""fd-domain on digits by the zoo's classifier: its columns, the models that lack some, what the classifier sees."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from click.testing import Result

from vaebench.core.data import Dataset
from vaebench.core.model import LatentVariableModel
from vaebench.evaluation.entry import of_model
from vaebench.evaluation.progress import Silent
from vaebench.evaluation.resources import LocalResources
from vaebench.evaluation.run import MetricRun, Settings
from vaebench.functional.frechet import frechet_distance, moments
from vaebench.metrics.fd_domain import FdDomain
from vaebench.metrics.shared.sample_quality import stored

CPU = torch.device("cpu")
Zoo = Callable[[str], LatentVariableModel]


def run(metric: FdDomain, model: LatentVariableModel, dataset: Dataset) -> MetricRun:
    entry = of_model(model, dataset, "vae")
    return MetricRun(entry, "metric", metric, Settings(), Silent(), LocalResources(entry, Settings()))


def rows(result: Result) -> dict[str, dict[str, Any]]:
    return {row["column"]: row for row in json.loads(result.stdout)}


def test_digits_are_measured_from_the_command_line(vaebench: Callable[..., Result], boards: Path) -> None:
    command = ("run", "--model", "dpvae", "--dataset", "digits", "--metric", "fd-domain", "--preset", "quick")
    result = vaebench(*command, "--leaderboards", boards, "--json")
    assert result.exit_code == 0, result.output
    found = rows(result)
    assert list(found) == [column.name for column in FdDomain.columns]
    assert all(row["status"] == "ok" and row["stderr"] > 0 for row in found.values())
    assert (found["fd_domain"]["n"], found["fd_domain_reconstruction"]["n"]) == (500, 360)
    assert found["fd_domain_reconstruction"]["value"] < found["fd_domain"]["value"]


def test_a_hamiltonian_posterior_has_no_low_posterior_columns(zoo: Zoo, digits: Dataset) -> None:
    metric, model = FdDomain(samples=100, candidates=200, repeats=1), zoo("hvae")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = {m.column for m in metric.measure(model, digits, run(metric, model, digits))}
    assert found == {"fd_domain", "fd_domain_reconstruction"}
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())


def test_the_classifier_tells_data_from_noise(zoo: Zoo, digits: Dataset) -> None:
    """Real test images are far nearer to the training images than mirrored ones, and these than noise."""
    _, extract = LocalResources(of_model(zoo("vae"), digits, "vae"), Settings()).features()
    train, test = (stored(digits.split(name), digits) for name in ("train", "test"))
    noise = torch.randint(0, 256, test.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    near, mirrored, far = (
        frechet_distance(moments(extract(train)), moments(extract(x))) for x in (test, test.flip(3), noise)
    )
    assert 20 * near < mirrored < far
