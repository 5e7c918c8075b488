"""What the metrics of a run may use: other datasets, other models of the zoo, weights files."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from torch import Tensor

from vaebench.core import files
from vaebench.core import registry as plugins
from vaebench.core.data import Dataset, Source
from vaebench.core.errors import DataError, UserError
from vaebench.core.metric import Trajectory, UnavailableError
from vaebench.core.model import LatentVariableModel
from vaebench.evaluation.entry import Entry
from vaebench.evaluation.progress import Progress, Silent
from vaebench.evaluation.run import Settings
from vaebench.metrics.shared import inception
from vaebench.models import card as cards
from vaebench.models import classifiers as features
from vaebench.models import loading, trajectory


@final
@dataclass(frozen=True)
class LocalResources:
    """`metric.Resources` of this machine: datasets under the settings' `data` (none is downloaded), models of the zoo
    for the entry's dataset, the trajectory of its weights, the settings' Inception. `progress` is told of downloads.
    """

    entry: Entry
    settings: Settings
    progress: Progress = field(default_factory=Silent)

    def dataset(self, name: str) -> Dataset:
        source = plugins.load("datasets", name)
        assert isinstance(source, Source)
        root = self.settings.data or files.default_data()
        try:
            return source.load(root, download=False)
        except (OSError, ValueError) as error:
            remedy = f"vaebench data get {name} --data {root}"
            raise UnavailableError(f"dataset {name!r} is not under {root}; get it: {remedy}") from error

    def model(self, name: str) -> LatentVariableModel:
        if (self.entry.dataset.name, name) not in cards.ids():
            raise UnavailableError(f"the zoo has no model {name!r} on {self.entry.dataset.name}")
        try:
            card = cards.find(name, self.entry.dataset.name)
            model = loading.build_model(card, self.entry.dataset.space)
            loading.load_weights(model, card.weights_path(self.progress.fetch))
        except (UserError, DataError) as error:
            raise UnavailableError(str(error)) from error
        return model.eval().to(device=self.settings.device, dtype=self.settings.weights_dtype)

    def trajectory(self) -> Trajectory:
        if self.entry.weights is None:
            raise UnavailableError("the evaluated model has no weights file, hence no training trajectory")
        folder = self.entry.trajectory or trajectory.beside(self.entry.weights)
        try:
            return trajectory.read(folder, trajectory.run_digest(self.entry.weights))
        except DataError as error:
            remedy = "train with --trajectory N and run with the --weights that it gives, or --trajectory DIR"
            raise UnavailableError(f"{error}; {remedy}") from error

    def features(self) -> tuple[str, Callable[[Tensor], Tensor]]:
        card = features.find(self.entry.dataset.name)
        if card is None or card.weights is None:
            raise UnavailableError(
                f"the zoo ships no classifier for {self.entry.dataset.name}; the metric fid needs none"
            )
        return card.weights.sha256, features.load(card).to(self.settings.device).features

    def inception_weights(self) -> Path:
        if self.settings.inception == inception.DOWNLOAD:
            try:
                return inception.fetch(self.progress.fetch)
            except UserError as error:
                raise UnavailableError(str(error)) from error
        if self.settings.inception is not None:
            return Path(self.settings.inception)
        if (path := inception.default()) is not None:
            return path
        raise UnavailableError("no Inception weights; give --inception-weights FILE, or 'download' (95 MB)")
