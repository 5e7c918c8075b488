"""What a metric is, what it gives, and what it may ask of the run that it is part of."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Self

import torch
from torch import Tensor

from vaebench.core.data import Batch, Dataset, Split, thinner
from vaebench.core.model import LatentVariableModel
from vaebench.distributions.errors import UnavailableError as UnavailableError
from vaebench.functional import intervals
from vaebench.functional.statistics import mean_stderr

BLOCK = 100
"""Examples journalled together."""
MOST_QUICK, MOST_DEAR = 500, 50
"""Examples of a split that preset quick reads; those of models whose draws are dear."""


@dataclass(frozen=True)
class Column:
    """A number of a metric: its name, unit, which way is better, and how it relates to the truth.

    Where there are several of one name, `facets` are the names of what tells them apart. `equation` says what it is in
    one line, for documents.
    """

    name: str
    unit: str
    better: Literal["lower", "higher", "none"]
    bound: Literal["exact", "lower", "upper", "estimate"]
    facets: tuple[str, ...] = ()
    equation: str = field(default="", compare=False)


class Curve(NamedTuple):
    """A column that is a function: `x` and `y` of equal length, with the names of both axes."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    x_name: str
    y_name: str


class Measurement(NamedTuple):
    """A column's value, its standard error (None where it has none), and the number of examples behind it.

    `df` are the degrees of freedom of the standard error, None where its law is normal. (`low`, `high`) is the 95%
    interval: left out, it is Student's, of `value`, `stderr` and `df`. `facet` holds a text for each of the column's
    facets. `marks` are words on how far to trust the value.
    """

    column: str
    value: float
    stderr: float | None
    n: int
    curve: Curve | None = None
    facet: Mapping[str, str] = MappingProxyType({})
    df: float | None = None
    low: float | None = None
    high: float | None = None
    marks: tuple[str, ...] = ()

    @classmethod
    def mean(cls, column: str, values: Tensor, n: int | None = None, curve: Curve | None = None) -> "Measurement":
        """The mean of independent `values` (R,), with R - 1 degrees of freedom; `n` examples are behind it, or R."""
        value, stderr = mean_stderr(values)
        df = None if stderr is None else len(values) - 1
        return cls(column, value, stderr, len(values) if n is None else n, curve, df=df)

    @classmethod
    def proportion(
        cls, column: str, value: float, stderr: float | None, n: int, curve: Curve | None = None
    ) -> "Measurement":
        """A mean of `n` numbers in [0, 1], with Wilson's interval: it has a width where they are all 0 or all 1."""
        low, high = intervals.proportion(value, stderr, n)
        return (
            cls(column, value, stderr, n, curve, low=low, high=high)
            if stderr is not None
            else cls(column, value, None, n, curve)
        )

    @property
    def interval(self) -> tuple[float | None, float | None]:
        """(`low`, `high`), or what stands for them; None where there is no standard error."""
        if self.stderr is None or self.low is not None:
            return self.low, self.high
        return intervals.student(self.value, self.stderr, self.df)


class Given(NamedTuple):
    """What a value may depend on beside its metric's parameters: the data's space, and the family of p(x|z).

    `binarisation` is "dynamic" where pixels are drawn anew for a reading, "none" where what is stored is read, and else
    says how it is read. `proper` says whether the masses of that family sum to 1, or its density integrates to 1;
    `bound` is what bounds a density that a model could make as large as it likes.
    """

    levels: int | None
    measure: str
    binarisation: str
    likelihood: str
    proper: bool
    bound: str | None = None

    @property
    def mass(self) -> str:
        """Proper masses on the same levels can be compared, whatever their family: "proper"; else the family."""
        found = "proper" if self.proper else self.likelihood
        return found if self.bound is None else f"{found}, {self.bound}"


@dataclass(frozen=True)
class Stage(ABC):
    """A pass that several metrics share, so that it is computed once a run: frozen, its fields are its parameters.

    `version` changes whenever a value could. Stages of one `stream` and parameters draw the same noise for an example.
    """

    version: ClassVar[int]
    stream: ClassVar[str]

    @abstractmethod
    def __call__(self, model: LatentVariableModel, batch: Batch, seed: int) -> Mapping[str, Tensor]:
        """Per-example values, each (B, ...), as a function given to `Run.map`."""


class Checkpoint(NamedTuple):
    """The weights after `step` steps of training, the last `steps` of them at the mean rate `learning_rate`.

    `load(model)` puts them into a model of the same architecture, a copy of the evaluated one.
    """

    step: int
    steps: int
    learning_rate: float
    load: Callable[[LatentVariableModel], None]


@dataclass(frozen=True)
class Trajectory:
    """Checkpoints along the training of a model on `examples` examples, in order; `sha256` names their content."""

    sha256: str
    data_fingerprint: str
    examples: int
    batch_size: int
    checkpoints: tuple[Checkpoint, ...]


class Resources(Protocol):
    """What a metric may use beyond its model and dataset. Every method raises `UnavailableError` with the remedy."""

    def dataset(self, name: str) -> Dataset:
        """Another dataset."""
        ...

    def model(self, name: str) -> LatentVariableModel:
        """Another model of the zoo on the same dataset, ready to evaluate."""
        ...

    def trajectory(self) -> Trajectory:
        """The checkpoints along the training of the evaluated model."""
        ...

    def features(self) -> tuple[str, Callable[[Tensor], Tensor]]:
        """The sha256 of the weights of a classifier for this dataset, and 8-bit images (B, C, H, W) to (B, F)."""
        ...

    def inception_weights(self) -> Path:
        """The weights of the Inception network that FID is defined with."""
        ...


class Run(Protocol):
    """One evaluation: the only source of seeds, devices and blocks that a metric sees."""

    @property
    def resources(self) -> Resources:
        """Other datasets and models."""
        ...

    @property
    def model_name(self) -> str:
        """The evaluated model's name on the board."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the model is, and where `map` puts each batch."""
        ...

    @property
    def seed(self) -> int:
        """The seed of this metric's noise that belongs to no example: a function of the run's and the metric's name."""
        ...

    def rows(self, model: LatentVariableModel) -> int:
        """How many latent draws to decode at once: bounds memory, never changes a result."""
        ...

    def map(
        self,
        function: Callable[..., Mapping[str, Tensor]],
        split: Split,
        *,
        repeats: int = 1,
        batch: int = 1,
        rows: int | None = None,
        stream: str | None = None,
        block: int | None = None,
    ) -> dict[str, Tensor]:
        """Per-example values over the whole split, in order: each (repeats * N, ...).

        `function(batch, seed)` gives one row per example and is called on at most `batch` of them; within it, data
        noise and `keyed(seed, batch.example, first_draw)` noise depend on the example alone. A dynamic split is read
        `repeats` times, each with fresh data noise. Finished blocks are journalled and never computed again. Where
        memory runs out, the block is computed again with half the `batch`; a function that decodes draws in parts takes
        them as `rows=`, and is given half of `rows` too. `block` examples are journalled together: fewer than usual
        where one takes seconds.

        Blocks are found again by the content of the split, by the function, and by all that it is given: it is a
        function at the top of its module, or a `functools.partial` that gives one more by keyword. Noise is derived
        from `stream`, by default the split's name, and from the number of this pass among the metric's.

        Raises TypeError if the function, or what it is given, cannot be told by content: see `core.content.identity`.
        """
        ...

    def shared(self, stage: Stage, split: Split, *, repeats: int = 1, batch: int = BLOCK) -> dict[str, Tensor]:
        """`map` of `stage` over `split`, once for all metrics of a run: noise is keyed by the stage, not the metric.

        The first of several `repeats` is what one alone is.
        """
        ...

    def warn(self, text: str) -> None:
        """Tell the user something that stops nothing: a part of the metric that is left out, and why."""
        ...

    def keep(self, name: str, content: bytes) -> None:
        """Keep `content` as the file `name` beside the rows: a picture, or per-example values."""
        ...

    def keep_values(self, values: Mapping[str, Tensor]) -> None:
        """Keep per-example values of the metric's split, in its order: by column, each (N,) with the column's mean.

        Two models can then be compared example by example. A second call takes the place of the first.
        """
        ...


@dataclass(frozen=True)
class Metric(ABC):
    """A protocol: a frozen dataclass whose fields are its parameters, giving every column that shares a pass.

    `split` is what it is measured on; `version` changes whenever a value could. `given` names what of `Given` a value
    depends on, by default whatever it could; `immaterial` the parameters that no value depends on. `splits` are the
    parameters that name a split of which every n-th example would do, `counts` those that count examples, with the
    least that they can be; `dear` is what preset quick has for models whose draws are dear: see `run.dear`.
    """

    split: str = "test"

    version: ClassVar[int]
    columns: ClassVar[tuple[Column, ...]]
    given: ClassVar[tuple[Literal["levels", "measure", "binarisation", "likelihood", "mass"], ...]] = (
        "levels", "measure", "binarisation", "likelihood",
    )  # fmt: skip
    immaterial: ClassVar[tuple[str, ...]] = ()
    splits: ClassVar[tuple[str, ...]] = ("split",)
    counts: ClassVar[Mapping[str, int]] = MappingProxyType({})
    dear: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    @classmethod
    def on_request(cls, dataset: Dataset) -> bool:
        """Whether it takes so long on `dataset` that presets other than quick measure it only where it is named."""
        return False

    @property
    def effort(self) -> tuple[str, ...]:
        """What is done with each example, in factors: "1,000 draws"; none where that is one step through networks."""
        return ()

    def quick(self, dataset: Dataset, *, dear: bool) -> Self:
        """Preset quick on `dataset`: every n-th example of each of `splits`, at most 500, or 50 where `dear`."""
        small = replace(self, **self.dear) if dear else self
        return small.thinned(dataset, MOST_DEAR if dear else MOST_QUICK)

    def fewer(self, dataset: Dataset, share: float) -> Self | None:
        """This metric on a `share` below 1 of its `splits` and `counts`; None where that is too little."""
        sizes = [len(dataset.split(name)) for name in self._named(dataset).values()]
        counts: dict[str, Any] = {name: int(share * getattr(self, name)) for name in self.counts}
        most = int(share * max(sizes, default=0))
        if any(counts[name] < least for name, least in self.counts.items()) or (most == 0 and (sizes or not counts)):
            return None
        return replace(self, **counts).thinned(dataset, most)

    def thinned(self, dataset: Dataset, most: int) -> Self:
        """This metric on every n-th example of each of its `splits`, so that none has more than `most`."""
        named = self._named(dataset).items()
        return replace(self, **{field: thinner(name, len(dataset.split(name)), most) for field, name in named})

    def _named(self, dataset: Dataset) -> dict[str, str]:
        names = {field: getattr(self, field) for field in self.splits}
        return {field: name for field, name in names.items() if dataset.has(name)}

    def depends(self, given: Given) -> Mapping[str, Any]:
        """What two models' values must share to be compared, beside dataset, split and version: names and JSON values.

        Those of `given` that the class names, and all parameters but the `immaterial` ones.
        """
        fields = {name: value for name, value in asdict(self).items() if name not in self.immaterial}
        return {**fields, **{name: getattr(given, name) for name in self.given}}

    @property
    def reads(self) -> tuple[str, ...]:
        """The splits that the dataset must have."""
        return (self.split,)

    def unsupported(self, model: LatentVariableModel, dataset: Dataset) -> str | None:
        """Why this pair cannot be measured (then its rows are `skipped` with this reason), or None.

        Here, for want of a split; a metric with reasons of its own asks this first.
        """
        absent = next((name for name in self.reads if not dataset.has(name)), None)
        return None if absent is None else f"{dataset.name} has no split {absent!r}"

    @abstractmethod
    def measure(self, model: LatentVariableModel, dataset: Dataset, run: Run) -> Iterator[Measurement]:
        """Each column once, or once for each facet, where it exists for this space."""
