"""What the metrics of a run from the command line may use: other datasets, other models of the zoo, weights files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from vaebench.core import registry as plugins
from vaebench.core.data import Dataset, Source
from vaebench.core.errors import DataError, UserError
from vaebench.core.metric import Trajectory, UnavailableError
from vaebench.core.model import LatentVariableModel
from vaebench.core.remote import Fetching
from vaebench.metrics.shared import inception
from vaebench.models import card as cards
from vaebench.models import classifiers as features
from vaebench.models import loading, trajectory


@final
@dataclass(frozen=True)
class Folder:
    """`metric.Resources`: datasets under `data` (none is downloaded), models of the zoo for the dataset of the run.

    The trajectory is that of the evaluated `weights`: in `trajectory_at`, else beside them.
    `inception` is a file of weights, or "download"; None is `inception.default`. `progress` is told of downloads.
    """

    data: Path
    run_dataset: Dataset
    device: torch.device
    dtype: torch.dtype
    inception: str | None = None
    weights: Path | None = None
    trajectory_at: Path | None = None
    progress: Fetching | None = None

    def dataset(self, name: str) -> Dataset:
        source = plugins.load("datasets", name)
        assert isinstance(source, Source)
        try:
            return source.load(self.data, download=False)
        except (OSError, ValueError) as error:
            remedy = f"vaebench data get {name} --data {self.data}"
            raise UnavailableError(f"dataset {name!r} is not under {self.data}; get it: {remedy}") from error

    def model(self, name: str) -> LatentVariableModel:
        if (self.run_dataset.name, name) not in cards.ids():
            raise UnavailableError(f"the zoo has no model {name!r} on {self.run_dataset.name}")
        try:
            card = cards.find(name, self.run_dataset.name)
            model = loading.build_model(card, self.run_dataset.space)
            loading.load_weights(model, card.weights_path(self.progress))
        except (UserError, DataError) as error:
            raise UnavailableError(str(error)) from error
        return model.eval().to(device=self.device, dtype=self.dtype)

    def trajectory(self) -> Trajectory:
        if self.weights is None:
            raise UnavailableError("the evaluated model has no weights file, hence no training trajectory")
        folder = self.trajectory_at or trajectory.beside(self.weights)
        try:
            return trajectory.read(folder, trajectory.run_digest(self.weights))
        except DataError as error:
            remedy = "train with --trajectory N and run with the --checkpoint that it gives, or --trajectory DIR"
            raise UnavailableError(f"{error}; {remedy}") from error

    def features(self) -> tuple[str, Callable[[Tensor], Tensor]]:
        card = features.find(self.run_dataset.name)
        if card is None or card.weights is None:
            raise UnavailableError(
                f"the zoo ships no classifier for {self.run_dataset.name}; the metric fid needs none"
            )
        return card.weights.sha256, features.load(card).to(self.device).features

    def inception_weights(self) -> Path:
        if self.inception == inception.DOWNLOAD:
            try:
                return inception.fetch(self.progress)
            except UserError as error:
                raise UnavailableError(str(error)) from error
        if self.inception is not None:
            return Path(self.inception)
        if (path := inception.default()) is not None:
            return path
        raise UnavailableError("no Inception weights; give --inception-weights FILE, or 'download' (95 MB)")
