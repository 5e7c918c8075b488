"""Bits back: images come back exactly, their code is as long as the bound, and what cannot be coded says why."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vaebench.core.data import Binarised, Dataset, Space, Split
from vaebench.core.metric import Measurement
from vaebench.core.model import LatentVariableModel
from vaebench.distributions.likelihoods import LIKELIHOODS, Likelihood
from vaebench.functional import codes
from vaebench.functional.codes import Stack
from vaebench.metrics import code_length
from vaebench.metrics.code_length import CodeLength
from vaebench.metrics.shared.bits_back import NETWORK, BinsError, BitsBack, obstacle
from vaebench.models.adapters.flat import Flat, Options
from vaebench.models.oracles import oracles

Measure = Callable[..., dict[str, Measurement]]
Zoo = Callable[[str], LatentVariableModel]


def there_and_back(model: LatentVariableModel, x: Tensor, bins: int = 12) -> tuple[Tensor, list[int], int]:
    """What comes back, the bits that each image added, and whether the stack is as it began."""
    code = BitsBack(model, bins)
    begin = codes.start(0, code.enough())
    stack = Stack(begin.copy())
    added = code.push(x, stack)
    assert stack.bits - 32 * len(begin) == pytest.approx(sum(added), abs=40)
    back = code.pop(len(x), stack)
    return back, added, int((stack.words == begin).all())


@pytest.mark.parametrize("name", ["vae", "nvae"])
@pytest.mark.parametrize("count", [1, NETWORK, NETWORK + 3])
def test_images_come_back_and_so_do_the_bits_that_were_lent(name: str, count: int, zoo: Zoo, digits: Dataset) -> None:
    x = digits.split("test").x[:count]
    back, added, whole = there_and_back(zoo(name), x)
    assert torch.equal(back, x.to(torch.uint8))
    assert whole
    assert all(bits > 0 for bits in added)


def test_any_image_can_be_coded(zoo: Zoo) -> None:
    """Of noise, or of one level: the model expects neither."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 17, (3, 1, 8, 8), generator=generator, dtype=torch.uint8)
    for x in (noise, torch.full_like(noise, 16), torch.zeros_like(noise)):
        try:
            back, added, _ = there_and_back(zoo("vae"), x, bins=16)
        except BinsError as error:
            assert "no number of bins" in str(error)  # noqa: PT017 (either is right)
            continue
        assert torch.equal(back, x)
        assert sum(added) / x.numel() > 1.5


def test_a_code_of_a_model_that_is_itself_uniform_costs_log_levels() -> None:
    """A decoder of zeros: every level has one mass, and q and the prior are paid back."""
    model = Flat(Space((1, 4, 4), 4, "pmf"), Options(3, (8,), "categorical")).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    x = torch.randint(0, 4, (40, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    back, added, _ = there_and_back(model, x)
    assert torch.equal(back, x)
    assert sum(added) / x.numel() == pytest.approx(2.0, rel=1e-3)


@pytest.mark.parametrize("family", ["bernoulli", "categorical", "discretised-logistic", "discretised-logistic-mixture"])
def test_log_masses_are_those_of_log_prob(family: str) -> None:
    levels = 2 if family == "bernoulli" else 5
    shape = (1, 2, 2)
    kind = LIKELIHOODS[family]
    raw = torch.randn(1, 3, kind.channels(shape, levels), 2, 2, generator=torch.Generator().manual_seed(0))
    likelihood: Likelihood = kind(raw, shape, levels)
    table = likelihood.log_masses()
    assert tuple(table.shape) == (1, 3, *shape, levels)
    torch.testing.assert_close(table.exp().sum(-1), torch.ones(1, 3, *shape), rtol=1e-4, atol=1e-4)
    x = torch.randint(0, levels, (3, *shape), generator=torch.Generator().manual_seed(1))
    chosen = table.gather(-1, x[None, ..., None]).flatten(2).sum(-1)
    torch.testing.assert_close(chosen, likelihood.log_prob(x), rtol=1e-4, atol=1e-4)


def test_the_metric_pays_what_the_bound_says(
    zoo: Zoo, digits: Dataset, measure: Measure, kept: dict[str, bytes]
) -> None:
    found = measure(CodeLength(split="test[::3]"), zoo("vae"), digits)
    assert set(found) == {column.name for column in CodeLength.columns}
    assert found["code_length"].n == 120
    overhead = found["code_overhead"]
    assert overhead.stderr is not None
    assert abs(overhead.value) < 0.005 + 3 * overhead.stderr
    assert 2.0 < found["code_length"].value < 2.25
    assert 500 < found["initial_bits"].value < 5000
    assert kept


def test_what_few_images_leave_to_chance_fails_no_row(
    zoo: Zoo, digits: Dataset, measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    metric, model = CodeLength(split="test[::9]", samples=10), zoo("vae")
    score, chance = code_length.score, torch.tensor([[10.0], [-4.0]]).expand(2, 20).reshape(40)  # nats, 3 on average
    monkeypatch.setattr(code_length, "score", lambda *a, **k: {"elbo": score(*a, **k)["elbo"] + chance})
    overhead = measure(metric, model, digits)["code_overhead"]
    assert overhead.stderr is not None
    assert code_length.MOST < overhead.value < code_length.MOST + 3 * overhead.stderr


def test_a_bound_that_is_not_the_codes_fails_the_row(
    zoo: Zoo, digits: Dataset, measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masses that sum to more than 1 make -ELBO too small; the coder normalises, and cannot be misled."""
    metric, model = CodeLength(split="test[::9]", samples=10), zoo("vae")
    score = code_length.score
    monkeypatch.setattr(code_length, "score", lambda *a, **k: {"elbo": score(*a, **k)["elbo"] + 5})
    with pytest.raises(ValueError, match=r"longer than -ELBO, outside -0.5% to 2%"):
        measure(metric, model, digits)


def test_an_image_that_comes_back_otherwise_fails_the_row(
    zoo: Zoo, digits: Dataset, measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    pop = BitsBack.pop

    def wrong(self: BitsBack, count: int, stack: Stack) -> Tensor:
        x = pop(self, count, stack)
        x[7, 0, 3, 3] += 1
        return x

    monkeypatch.setattr(BitsBack, "pop", wrong)
    with pytest.raises(ValueError, match="image 63 came back otherwise"):
        measure(CodeLength(split="test[::9]", samples=1), zoo("vae"), digits)


def test_bins_too_few_name_the_image_and_the_remedy(zoo: Zoo, digits: Dataset) -> None:
    with pytest.raises(
        BinsError, match=r"image \d+: its posterior is too narrow for 2\*\*2 bins; set bins to at least"
    ):
        there_and_back(zoo("vae"), digits.split("test").x[:40], bins=2)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("dpvae", "a decoupled prior bends"), ("hvae", "a Hamiltonian model's has one with momenta"), ("vae", None)],
)
def test_what_cannot_be_coded_says_why(name: str, reason: str | None, zoo: Zoo, digits: Dataset) -> None:
    found = CodeLength().unsupported(zoo(name), digits)
    assert found is None if reason is None else found is not None and found.endswith(reason)


def test_a_density_has_no_code() -> None:
    oracle = oracles(count=3)[0]
    assert obstacle(oracle.model) == "a density has no code length: only integers are coded"
    colours = Flat(Space((3, 2, 2), 8, "pmf"), Options(2, (4,), "discretised-logistic-mixture"))
    assert obstacle(colours) == (
        "the likelihood discretised-logistic-mixture has no mass of each level of each dimension alone"
    )


def test_without_the_coder_the_row_says_what_to_install(
    zoo: Zoo, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> None:
        raise ImportError

    monkeypatch.setattr(codes, "library", absent)
    found = CodeLength().unsupported(zoo("vae"), digits)
    assert found == "needs the coder of constriction; run: pip install 'vaebench[codes]'"


def test_parameters_have_their_range() -> None:
    for bins in (0, 17):
        with pytest.raises(ValueError, match=f"bins = {bins} should be from 1 to 16"):
            CodeLength(bins=bins)
    with pytest.raises(ValueError, match="samples = 0 should be at least 1"):
        CodeLength(samples=0)


def test_a_binarised_split_is_coded_as_it_was_read(measure: Measure) -> None:
    space = Space((1, 4, 4), 2, "pmf")
    torch.manual_seed(0)
    grey = torch.full((300, 1, 4, 4), 128, dtype=torch.uint8)
    model = Flat(space, Options(2, (4,), "bernoulli")).eval()
    dataset = Dataset("toy", space, {"test": Split("test", grey, reading=Binarised())}, "")
    found = measure(CodeLength(samples=200), model, dataset)
    assert found["code_length"].n == 300
    assert found["code_length"].value == pytest.approx(1.0, abs=0.1)  # fair coins
