"""A submission, and what is wrong with it."""

from collections.abc import Callable
from pathlib import Path

from vaebench.core import files
from vaebench.submission import folder as submission

WriteCard = Callable[..., Path]


def recard(folder: Path, write_card: WriteCard, name: str = "mine", **changes: str | None) -> None:
    """Write the card of the weights in `folder`, with some keys changed."""
    digest = files.sha256(folder / f"{name}.safetensors")
    weights = {"weights.file": f"'{name}.safetensors'", "weights.sha256": f"'{digest}'"}
    write_card(name, {**weights, **{key.replace("__", "."): value for key, value in changes.items()}}, folder)


def problems(folder: Path) -> list[tuple[str, str]]:
    """All that is wrong with the submission in `folder`."""
    found, told = submission.read(folder)
    if found is not None and not told:
        told = submission.model_faults(found)
    assert found is not None or told
    return [tuple(problem) for problem in told]  # type: ignore[misc]


def one_fault(folder: Path, file: str, says: str) -> None:
    """One thing is wrong: `file` is named, and its fault `says` so."""
    ((named, fault),) = problems(folder)
    assert named == file
    assert says in fault
    assert str(folder) not in fault
