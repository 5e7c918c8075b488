"""The folder that a pull request is made from: card, weights and rows."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vaebench.core import files
from vaebench.core.errors import UserError
from vaebench.core.registry import load_dataset
from vaebench.models import card as cards

if TYPE_CHECKING:
    from vaebench.core.metric import Metric
    from vaebench.evaluation.progress import Progress
    from vaebench.submission.folder import Submission


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


def check_out(out: Path, found: "Submission") -> None:
    """UserError unless `out` can be written to and holds nothing but an older layout of this submission."""
    import re

    from vaebench.submission.tree import allowed

    if out.resolve().is_relative_to(found.folder.resolve()):
        raise UserError(f"--out {out} lies in the submission {found.folder} itself; name a folder outside of it")
    files.check_writable(out)
    patterns = allowed(f"model_zoo/{found.card.id}.toml", True)
    for path in files_of(out):
        if not any(re.fullmatch(pattern, path.relative_to(out).as_posix()) for pattern in patterns):
            raise UserError(f"--out {out} holds {path.relative_to(out)}, which is not of {found.card.id}; name another")


def lay_out(
    tree: Path, found: "Submission", metrics: "Mapping[str, Metric]", data: Path | None, device: str,
    max_draws: int | None, progress: "Progress",
) -> None:  # fmt: skip
    """Measure the model, and write the files of its pull request below `tree`. UserError as `admit`."""
    from vaebench.boards import store as board
    from vaebench.core.device import torch_device
    from vaebench.evaluation import entry as entries
    from vaebench.evaluation import runner
    from vaebench.evaluation.admission import admit
    from vaebench.evaluation.journal import Journal
    from vaebench.evaluation.run import Settings
    from vaebench.submission.rows import SEED

    card, boards = found.card, tree / "leaderboards"
    entry = entries.of_card(card, found.weights, load_dataset(card.dataset, data))
    journal = Journal(files.cache() / "journal")
    settings = Settings(torch_device(device), seed=SEED, max_draws=max_draws, journal=journal, data=data)

    def keep(metric: str, name: str, content: bytes) -> None:
        files.write_atomic(boards / card.dataset / card.name / metric / name, content)

    admit(entry, settings, progress)
    measured = runner.measure(entry, metrics, settings, progress=progress, keep=keep)
    rows = board.merge([], [row for finished in measured for row in finished])
    zoo = tree / "model_zoo" / card.dataset
    cards.write(card, zoo / f"{card.name}.toml")
    if found.carries_weights:
        files.write_atomic(zoo / f"{card.name}.safetensors", found.weights.read_bytes())
    files.write_atomic(boards / card.dataset / f"{card.name}.parquet", board.encode(rows))


def replace(out: Path, tree: Path) -> list[str]:
    """Make `out` hold the files of `tree` and no others; their paths in it."""
    names = [path.relative_to(tree) for path in files_of(tree)]
    for name in names:
        files.write_changed(out / name, (tree / name).read_bytes())
    for path in files_of(out):
        if path.relative_to(out) not in names:
            path.unlink()
    return [name.as_posix() for name in names]
