"""vaebench: a benchmark suite for variational auto-encoders.

>>> import vaebench
>>> model = vaebench.load_model("vae", "two-moons")
>>> results = vaebench.evaluate(model, "two-moons", metrics="likelihood", preset="quick")
>>> results["nll"].unit
'nats'

What is listed in `__all__` is the public face. Nothing is imported until it is used, so that `import vaebench` loads no
torch. `__version__` is that of the installation.
"""

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vaebench.boards.frame import board
    from vaebench.evaluation.api import check, evaluate, load_dataset, load_model
    from vaebench.evaluation.monitor import Monitor
    from vaebench.evaluation.results import Results
    from vaebench.models.own import from_module

    __version__: str

__all__ = [
    "Monitor",
    "Results",
    "__version__",
    "board",
    "check",
    "evaluate",
    "from_module",
    "load_dataset",
    "load_model",
]

_HOMES = {
    "Monitor": "evaluation.monitor",
    "Results": "evaluation.results",
    "board": "boards.frame",
    "check": "evaluation.api",
    "evaluate": "evaluation.api",
    "from_module": "models.own",
    "load_dataset": "evaluation.api",
    "load_model": "evaluation.api",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return metadata.version("vaebench")
    if name not in _HOMES:
        raise AttributeError(f"module 'vaebench' has no attribute {name!r}")
    return getattr(import_module(f"vaebench.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
