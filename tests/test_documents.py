"""What README and CONTRIBUTING say is so: commands exist, the table is the board's, the examples work as printed."""

import re
import runpy
import tomllib
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
import torch
from click.testing import CliRunner

from vaebench.boards import claims, claims_text, headline, per_example, text
from vaebench.boards import store as board
from vaebench.boards.overlay import Boards
from vaebench.boards.paired import comparer
from vaebench.cli.main import main
from vaebench.core import checks
from vaebench.core import registry as plugins
from vaebench.core.data import Dataset, Space
from vaebench.core.errors import DataError
from vaebench.models import card
from vaebench.models.oracles import oracles
from vaebench.training import loop as training

ROOT = Path(__file__).parent.parent
README, CONTRIBUTING, LLMS = ((ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md", "llms.txt"))
IMPORTS = """
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from vaebench.core.arithmetic import through
from vaebench.core.data import Batch, Dataset, Source, Space, Split
from vaebench.functional import random
from vaebench.functional.statistics import mean_stderr
from vaebench.core.metric import Column, Measurement, Metric, Run
from vaebench.core.model import FactoredModel, LatentVariableModel, Latents, channels
from vaebench.core.tables import COUNT, within
from vaebench.distributions.gaussian import DiagonalGaussian
from vaebench.distributions.likelihoods import LIKELIHOODS, Likelihood
from vaebench.core.objective import Loss, Objective
from vaebench.models.formats import Imported, Importer, check, read_state_dict
"""


def test_readme_opens_with_two_commands() -> None:
    block = re.search(r"```sh\n(.*?)```", README, re.S)
    assert block is not None
    assert len(block[1].splitlines()) == 2
    assert README.index("```sh") < 400


def test_every_verb_that_the_documents_name_exists() -> None:
    for line in set(re.findall(r"vaebench ([a-z]+(?: [a-z]+)?)", README + CONTRIBUTING + LLMS)):
        verbs = [verb for verb in line.split() if verb in {*main.commands, "show", "csv", "get"}]
        if verbs:
            assert CliRunner().invoke(main, [*verbs, "--help"]).exit_code == 0, verbs


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README + LLMS)
    assert len(links) > 12
    here = [link for link in links if "://" not in link and not link.startswith("../../")]  # that is GitHub's own
    assert [link for link in here if not (ROOT / link).exists()] == []


def test_the_summary_for_language_models_opens_with_a_title_and_a_summary() -> None:
    """As https://llmstxt.org asks."""
    title, _, summary, *_ = LLMS.splitlines()
    assert title == "# vaebench"
    assert summary.startswith("> ")
    assert re.findall(r"^## (.*)$", LLMS, re.M)[-1] == "Optional"


def test_readmes_table_is_the_boards() -> None:
    root = ROOT / "leaderboards"
    table = headline.of_rows("mnist", board.read(root, "mnist"), comparer(partial(per_example.read, root)))
    lines = re.findall(r"^\| ([0-9-]+) \| ([a-z0-9-]+) \| (.*) \|$", README, re.M)
    assert len(lines) > 4
    wanted = ("nll", "elbo", "fd_domain", "skl_knn", "probe")
    for (rank, model, cells), line in zip(lines, table.lines, strict=False):
        found = [cell for column, cell in zip(table.columns, line.cells, strict=True) if column.key in wanted]
        assert found[0] is not None
        assert (rank, model) == (str(found[0].rank), line.name)
        shown = [headline.ABSENT if c is None else text.number(c.row.value or 0.0, c.row.stderr) for c in found]
        assert cells.split(" | ") == shown
    assert headline.sentence(table) in " ".join(README.split())


def test_the_page_of_claims_is_the_boards() -> None:
    root = ROOT / "leaderboards"
    assert (root / "CLAIMS.md").read_text(encoding="utf-8") == claims_text.page(claims.read(), Boards(root))


def example(heading: str, folder: Path) -> ModuleType:
    """The Python block under a heading of CONTRIBUTING, as a module."""
    section = CONTRIBUTING.split(f"## {heading}")[1].split("\n## ")[0]
    block = re.search(r"```python\n(.*?)```", section, re.S)
    assert block is not None
    path = folder / f"{heading.split()[-1]}_example.py"
    path.write_text(IMPORTS + block[1])
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    pytest.MonkeyPatch().setitem(__import__("sys").modules, path.stem, module)
    spec.loader.exec_module(module)
    return module


def digits() -> Dataset:
    source = plugins.load("datasets", "digits")
    return source.load(Path())  # type: ignore[attr-defined, no-any-return]


def test_the_model_example_is_a_card(tmp_path: Path) -> None:
    block = re.search(r"```toml\n(.*?)```", CONTRIBUTING, re.S)
    assert block is not None
    path = tmp_path / "digits" / "vae-wide.toml"
    path.parent.mkdir()
    path.write_text(block[1])
    found = card.read(path)
    assert (found.dataset, found.name) == ("digits", "vae-wide")
    assert tomllib.loads(block[1])["training"]["epochs"] == found.training.epochs  # type: ignore[union-attr]


def test_the_family_example_keeps_its_promises_and_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = example("Add a family", tmp_path)
    build, options = module.plugin
    for likelihood, space in (("categorical", digits().space), ("gaussian", Space((5,), None, "density"))):
        torch.manual_seed(0)
        model = build(space, options(latent=4, likelihood=likelihood)).eval()
        assert [check for check in checks.check_model(model) if not check.passed] == []
    load = plugins.load
    monkeypatch.setattr(plugins, "load", lambda kind, name: module.plugin if name == "affine" else load(kind, name))
    table = {"latent": 4, "likelihood": "categorical"}
    made = card.Card("tiny", "digits", "", "affine", table, training=card.Recipe(epochs=2, validation=100))
    trained = training.train(made, digits(), tmp_path, device=torch.device("cpu"), report=lambda *_: None)
    assert trained.trained is not None
    assert trained.trained.best_epoch == 2


def test_the_dataset_example_keeps_its_promises(tmp_path: Path) -> None:
    dataset = example("Add a dataset", tmp_path).plugin.load(tmp_path)
    assert all(check.passed for check in checks.check_dataset(dataset))


def test_the_metric_example_keeps_its_promises_and_measures(tmp_path: Path) -> None:
    from vaebench.evaluation import runner
    from vaebench.evaluation.entry import of_model
    from vaebench.evaluation.progress import Silent
    from vaebench.evaluation.run import Settings

    metric = example("Add a metric", tmp_path).plugin["standard"]
    assert all(check.passed for check in checks.check_metric(metric))
    oracle = oracles(count=20)[0]
    entry = of_model(oracle.model, oracle.dataset, "oracle")
    ((row,),) = runner.measure(entry, {"offset": metric}, Settings(), progress=Silent())
    exact = oracle.model.embed(oracle.dataset.split("test").x).norm(dim=1).mean()
    assert row.value == pytest.approx(float(exact.detach()), rel=1e-5)


def test_the_importer_example_reads_its_format(tmp_path: Path) -> None:
    importer = example("Add an importer", tmp_path).plugin
    state = {"weight": torch.ones(8, 2), "bias": torch.arange(8.0)}
    torch.save(state, tmp_path / "coins.pth")
    found = importer.read(tmp_path / "coins.pth", importer.options(fair=True))
    assert found.state["decoder.weight"].equal(state["weight"])
    assert found.state["decoder.bias"].equal(torch.zeros(8))
    torch.save({"weight": torch.ones(8, 3)}, tmp_path / "coins.pth")
    with pytest.raises(DataError, match=r"missing bias; weight is \[8, 3\] instead of \[8, 2\]"):
        importer.read(tmp_path / "coins.pth", importer.options())


def test_the_objective_example_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = example("Add an objective", tmp_path)
    load = plugins.load
    monkeypatch.setattr(plugins, "load", lambda kind, name: module.plugin if name == "annealed" else load(kind, name))
    table = {"latent": 2, "hidden": [8], "likelihood": "categorical"}
    objective = {"name": "annealed", "until": 0.2}
    made = card.Card("tiny", "digits", "", "flat", table, objective, card.Recipe(epochs=1))
    trained = training.train(made, digits(), tmp_path, device=torch.device("cpu"), report=lambda *_: None)
    assert trained.objective == objective


def test_the_readme_is_two_screens() -> None:
    assert len(README.splitlines()) <= 80
    assert len(re.findall(r"^- \[", README, re.M)) == 5


def test_the_quick_starts_lines_of_python_do_as_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "quick-start.md").read_text(encoding="utf-8")
    block = re.search(r"```python\n(import vaebench\n.*?)```", page, re.S)
    assert block is not None
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VAEBENCH_RESULTS")
    (tmp_path / "example.py").write_text(block[1], encoding="utf-8")
    results = runpy.run_path(str(tmp_path / "example.py"))["results"]
    told = re.search(r'results\["nll"\]  # (.*)', block[1])
    assert told is not None
    assert repr(results["nll"]) == told[1]
    assert (tmp_path / "results" / "digits" / "dpvae.parquet").is_file()


def test_the_readmes_wiring_is_a_model() -> None:
    import vaebench

    (line,) = re.findall(r"^model = (vaebench\.from_module\(network, .*\))$", README, re.M)

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = torch.nn.Linear(784, 4), torch.nn.Linear(2, 784)

        def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return self.encoder(x.flatten(1)).chunk(2, 1)

        def decode(self, z: torch.Tensor) -> torch.Tensor:
            return self.decoder(z).view(-1, 1, 28, 28)

    model = eval(line, {"vaebench": vaebench, "network": Network()}).bind(Space((1, 28, 28), 2, "pmf"))
    assert [check for check in checks.check_model(model) if not check.passed] == []
