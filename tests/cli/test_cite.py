"""Papers that a text names, in BibTeX: every one that a metric or a card of the zoo names is known."""

from collections.abc import Callable

import pytest
from click.testing import Result

from vaebench.core import citations
from vaebench.core import registry as plugins
from vaebench.models import card as cards

Invoke = Callable[..., Result]


def test_papers_are_found_as_they_are_written() -> None:
    text = "JPEG 2000; Grosse, Ghahramani & Adams 2015; Burda et al.\n2016 (arXiv 1509.00519), Neal 2001; Burda 2016"
    assert citations.keys(text) == ["grosse2015", "burda2016", "neal2001"]


def test_every_paper_of_a_metric_or_card_is_known() -> None:
    texts = {name: plugins.documentation("metrics", name) for name in plugins.shipped("metrics")}
    for dataset, name in cards.ids():
        card = cards.find(name, dataset)
        texts[card.id] = f"{card.summary}\n{card.notes}"
    absent = {(name, key) for name, text in texts.items() for key in citations.keys(text)}
    assert {(name, key) for name, key in absent if key not in citations.references()} == set()


def test_an_entry_is_whole_and_names_its_key() -> None:
    assert len(citations.references()) == citations.FILE.read_text().count("@")
    for key, entry in citations.references().items():
        assert f"year = {{{key[-4:]}}}" in entry
        assert entry.count("{") == entry.count("}")
        assert "author = {" in entry
        assert "title = {" in entry


def test_the_verb_prints_bibtex_of_models_and_metrics(vaebench: Invoke) -> None:
    result = vaebench("cite", "dpvae")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "@inproceedings{bhalodia2020," in result.stdout
    assert "@inproceedings{kingma2014," in result.stdout
    assert vaebench("cite", "likelihood").stdout.startswith("@inproceedings{burda2016,")


def test_every_model_and_metric_but_size_has_a_paper(vaebench: Invoke) -> None:
    names = {name for _, name in cards.ids()} | set(plugins.shipped("metrics")) - {"size"}
    assert {name for name in names if vaebench("cite", name).exit_code} == set()
    for name, papers in (
        ("reconstruction", ("wang2004", "zhang2018")),
        ("fd-imagenet", ("heusel2017", "tan2019")),
        ("disentanglement", ("eastwood2018", "kumar2018", "ridgeway2018", "chen2018")),
        ("nvae-official-tail", ("vahdat2020",)),
    ):
        for paper in papers:
            assert f"{{{paper}," in vaebench("cite", name).stdout


@pytest.mark.parametrize(("name", "says"), [("dpave", "did you mean 'dpvae'"), ("gallary", "did you mean 'gallery'")])
def test_an_unknown_name_is_one_line(name: str, says: str, refused: Callable[..., str]) -> None:
    refused(2, ("cite", name), "unknown model or metric", says)
