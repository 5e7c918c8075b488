"""Faults of one line that selftest must see: half of those which its quick answers see by default, all weekly."""

import pytest
import torch
from faults import FAULTS, Fault, planted
from weekly import weekly

from vaebench.evaluation.selftest import ANSWERS

COSTLY = {"bounds", "certified", "latent gap", "disentanglement", "regret", "tracin"}  # a second or more each
DAILY = [fault for fault in FAULTS if fault.answers not in COSTLY][::2]


def failing(name: str) -> list[str]:
    """The answers of one kind that fail, or the error that ends them."""
    try:
        return [a.estimator for a in ANSWERS[name](torch.device("cpu"), torch.float32) if not a.passed]
    except (ArithmeticError, IndexError, KeyError, RuntimeError, ValueError) as error:
        return [str(error)]


def test_there_are_enough_and_of_every_kind_of_answer() -> None:
    assert len(set(FAULTS)) == len(FAULTS) >= 2 * len(DAILY) >= 80
    assert {fault.answers for fault in FAULTS} == ANSWERS.keys()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.module}: {fault.wrong}")
def test_a_fault_changes_one_place(fault: Fault) -> None:
    with planted(fault):
        pass


@pytest.mark.parametrize("fault", weekly(FAULTS, *DAILY), ids=lambda fault: f"{fault.module}: {fault.wrong}")
def test_selftest_sees_a_fault(fault: Fault) -> None:
    with planted(fault):
        assert failing(fault.answers)


def test_a_fault_is_taken_out_again() -> None:
    fault = next(f for f in FAULTS if "MIN_LOG_SCALE" in f.right)
    assert failing(fault.answers) == []
    with planted(fault):
        assert any("narrowest" in name for name in failing(fault.answers))
    assert failing(fault.answers) == []
