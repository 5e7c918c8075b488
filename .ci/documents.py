"""The pages of the documentation that are written from the code: a hook of mkdocs.yml.

Metrics from their `columns`, presets and docstrings, with what they have cost on the boards; commands from click.
"""

import json
import re
import statistics
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Link, Navigation

from vaebench.boards import store
from vaebench.cli.main import EXIT_CODES, main
from vaebench.core import citations
from vaebench.core import registry as plugins
from vaebench.core.metric import Column, Metric

ROOT = Path(__file__).resolve().parents[1]
PRESETS = ("quick", "standard", "paper")
NONE = "\N{EN DASH}"
WIDE = "---\nhide: [toc]\n---\n"
"""Begins a page whose tables need the room of its contents."""
SIDES = {"lower": "lower", "higher": "higher", "none": NONE}
USUAL = ("digits", "mnist")
"""The datasets whose costs are told; of what none of them has, the first two that have it."""
BOUNDS = {"exact": "exact", "lower": "a lower bound", "upper": "an upper bound", "estimate": "an estimate"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the written pages, the claims, and CONTRIBUTING, CHANGELOG and SECURITY, whose links lead to pages here."""
    pages = {"metrics.md": metrics_page(), "commands.md": commands_page()}
    pages["claims.md"] = WIDE + (ROOT / "leaderboards" / "CLAIMS.md").read_text(encoding="utf-8")
    for name in ("CONTRIBUTING", "CHANGELOG", "SECURITY"):
        text = (ROOT / f"{name}.md").read_text(encoding="utf-8")
        pages[f"{name.lower()}.md"] = re.sub(r"\]\(docs/([a-z-]+\.md)", r"](\1", text)
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_nav(nav: Navigation, config: MkDocsConfig, files: Files) -> Navigation:
    """Adds the boards, which lie one folder above the pages."""
    nav.items.append(Link("Boards", "../index.html"))
    return nav


def prose(text: str) -> str:
    """A docstring as Markdown: lists keep their items; outside of `code` no sign is markup."""
    text = re.sub(r"(?<!\n)\n(?=\* )", "\n\n", text)
    parts = re.split(r"(``?[^`]+``?)", text)
    parts[::2] = [re.sub(r"(?<!^)(?<!\n)([*_<|\[\]])", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)


def table(head: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    """A table in Markdown; a bar within a cell is escaped."""
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *cells))


# Metrics


def metrics_page() -> str:
    """Every metric: what it is, its columns with equations, its presets, what it costs, its papers."""
    seconds = measured()
    head = [
        "# Metrics",
        "A metric is a protocol: its parameters are stated in every row, and rows of other parameters are never ranked "
        "together. This page is written from the code of the metrics, and the costs from the rows of the boards.",
        "Preset `standard` is the default, and what boards hold. `quick` is of every n-th example, 500 at most, "
        "and `paper` as papers do. Any parameter can be set: `--set likelihood.samples=100`.",
        table(
            ("metric", "what it says"), [(f"[{name}](#{name})", plugins.summary("metrics", name)) for name in names()]
        ),
    ]
    return "\n\n".join([*head, *(section(name, seconds.get(name, {})) for name in names())]) + "\n"


def names() -> list[str]:
    return plugins.shipped("metrics")


def section(name: str, seconds: dict[str, list[float]]) -> str:
    presets = plugins.load("metrics", name)
    assert isinstance(presets, dict)
    metric = presets["standard"]
    parts = [f"## {name}", prose(described(metric, name)), columns(metric.columns)]
    parts += ["**Parameters** " + ("(none but the split)" if len(asdict(metric)) == 1 else "by preset:")]
    fields = [(f"`{key}`", *(f"`{asdict(presets[preset])[key]!r}`" for preset in PRESETS)) for key in asdict(metric)]
    parts += [table(("parameter", *PRESETS), fields), cost(metric, seconds)]
    if citations.bibtex(plugins.documentation("metrics", name)):
        parts += [f"**Papers**: `vaebench cite {name}` prints their BibTeX."]
    return "\n\n".join(parts)


def described(metric: Metric, name: str) -> str:
    """The first line of the metric's file, and what its class and what that is built on say."""
    bases = [each for each in type(metric).__mro__ if each.__module__.startswith("vaebench.metrics")]
    told = [plugins.summary("metrics", name), *(each.__doc__ or "" for each in bases)]
    return "\n\n".join("\n".join(line.strip() for line in text.splitlines()) for text in told)


def columns(found: tuple[Column, ...]) -> str:
    lines = [
        (f"`{each.name}`" + (f", for each {', '.join(each.facets)}" if each.facets else ""), each.unit or NONE,
         SIDES[each.better], BOUNDS[each.bound], f"`{each.equation}`")
        for each in found
    ]  # fmt: skip
    return table(("column", "unit", "better", "beside the truth", "equation"), lines)


def measured() -> dict[str, dict[str, list[float]]]:
    """Seconds that rows of preset standard took, by metric and dataset: one number a model."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    standard = {name: parameters(name) for name in names()}
    for dataset in sorted(store.datasets(ROOT / "leaderboards"), key=lambda name: (name not in USUAL, name)):
        for row in store.read(ROOT / "leaderboards", dataset):
            if (
                row.seconds is not None
                and row.status == "ok"
                and json.loads(row.parameters) == standard.get(row.metric)
            ):
                found.setdefault(row.metric, {}).setdefault(dataset, {})[row.model] = row.seconds
    return {name: {key: sorted(each.values()) for key, each in of.items()} for name, of in found.items()}


def parameters(name: str) -> Any:
    presets = plugins.load("metrics", name)
    assert isinstance(presets, dict)
    return json.loads(json.dumps(asdict(presets["standard"])))


def cost(metric: Metric, seconds: dict[str, list[float]]) -> str:
    effort = f"{' and '.join(metric.effort).strip('()')} an example. " if metric.effort else ""
    several = {name: each for name, each in seconds.items() if name in USUAL} or dict(list(seconds.items())[:2])
    times = [f"{duration(statistics.median(each))} on {dataset}{spread(each)}" for dataset, each in several.items()]
    told = (
        f"{effort}Preset standard took {'; '.join(times)}."
        if times
        else f"{effort}No board has a row of preset standard."
    )
    return f"**Cost**: {told}"


def spread(seconds: list[float]) -> str:
    """What is between the least and the most: " (median of 17 models, 23 s to 52 s)"; nothing for one."""
    if len(seconds) < 2:
        return ""
    return f" (median of {len(seconds)} models, {duration(seconds[0])} to {duration(seconds[-1])})"


def duration(seconds: float) -> str:
    """As a person says it: "0.3 s", "41 s", "12 min", "3.1 h"."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.2g} {unit}" if seconds < 10 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds:.2g} s"


# Commands


def commands_page() -> str:
    """Every verb with its arguments, options and defaults, as click knows them."""
    parts = ["# The command line", "Written from the commands; `--help` after any of them says the same.",
             "```text\n" + EXIT_CODES.removeprefix("\b\n") + "\n```"]  # fmt: skip
    for path, command in verbs(main, ("vaebench",)):
        parts += verb(path, command)
    return "\n\n".join(parts) + "\n"


def verbs(group: click.Group, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Each command below a group with the words that call it, sorted, a group before what it holds."""
    context = click.Context(group, **main.context_settings)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from verbs(command, (*path, name))


def verb(path: tuple[str, ...], command: click.Command) -> list[str]:
    context = click.Context(command, info_name=" ".join(path), **main.context_settings)
    usage = " ".join([*path, *command.collect_usage_pieces(context)])
    parts = [f"{'#' * len(path)} {' '.join(path)}", helped(command.help or ""), f"```text\n{usage}\n```"]
    records = [param.get_help_record(context) for param in command.get_params(context)]
    options = [f"`{names}`\n:   {prose(told) or NONE}" for names, told in filter(None, records)]
    return [*parts, "\n\n".join(options)]


def helped(text: str) -> str:
    """A command's help as Markdown; paragraphs that click prints as they are stay so."""
    blocks = text.replace("\f", "").split("\n\n")
    told = [f"```text\n{kept.strip(chr(10))}\n```" if mark else prose(" ".join(before.split()))
            for before, mark, kept in (block.partition("\b") for block in blocks)]  # fmt: skip
    return "\n\n".join(told)
