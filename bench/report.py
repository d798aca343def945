"""Writes what a run of the bench found: JSON with every run, a Markdown table, a plot for each question with rivals."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.harness import median

if TYPE_CHECKING:
    from bench.harness import Table
    from bench.questions import Asked

__all__ = ["write"]

RESULTS = Path(__file__).parent / "results"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _verdict(asked: Asked, table: Table) -> str:
    if asked.judge is None:
        return ""
    try:
        text, reached = asked.judge(table)
    except (ValueError, KeyError, ZeroDivisionError):
        return "no figure"
    return f"{text}: {'reached' if reached else '**not reached**'}"


def _cpu_us(table: Table, contender: str) -> list[float]:
    """Microseconds of CPU of all processes for each event received, the start of the program included."""
    return [run["cpu_seconds"] / run["received"] * 1e6 for run in table.runs[contender] if run.get("received")]


def _rows(table: Table) -> list[str]:
    question = table.question
    rows = []
    for name in (question.ours, *question.rivals):
        if name in table.missing:
            rows.append(f"| {name} | not installed: {table.missing[name]} | | | |")
            continue
        figures = table.figures(name)
        if not figures:
            void = table.runs.get(name, [{}])[0].get("void", "no run")
            rows.append(f"| {name} | void: {void} | | | |")
            continue
        ratios = table.ratios(name) if name != question.ours else []
        ratio = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else ""
        cpu = _number(median(_cpu_us(table, name))) if question.figure == "rate" else ""  # else starting is most of it
        spread = f"{_number(min(figures))} to {_number(max(figures))}"
        rows.append(f"| {name} | {_number(median(figures))} {question.unit} | {spread} | {ratio} | {cpu} |")
    return rows


def markdown(where: dict[str, Any], tables: list[tuple[Asked, Table]]) -> str:
    lines = [
        "Machine: {cpu}, {cores} cores, kernel {kernel}, Python {python}; {when}, load {load:.1f} at the start.".format(
            **where
        ),
        "",
        "| Question | Target | Here |",
        "|---|---|---|",
    ]
    lines += [f"| {asked.title} | {asked.target} | {_verdict(asked, table)} |" for asked, table in tables]
    for asked, table in tables:
        lines += [
            "",
            f"### {asked.title}",
            "",
            "| Contender | Median | Range | Ratio ours / theirs, pair by pair | CPU us an event |",
            "|---|---|---|---|---|",
            *_rows(table),
        ]
    return "\n".join(lines) + "\n"


def _plot(path: Path, table: Table) -> None:
    try:
        import matplotlib as mpl
    except ImportError:
        return
    mpl.use("svg")
    from matplotlib import pyplot as plt

    names = [name for name in (table.question.ours, *table.question.rivals) if table.figures(name)]
    if len(names) < 2:
        return
    figures = [table.figures(name) for name in names]
    medians = [median(values) for values in figures]
    below = [middle - min(values) for middle, values in zip(medians, figures, strict=True)]
    above = [max(values) - middle for middle, values in zip(medians, figures, strict=True)]
    figure, axes = plt.subplots(figsize=(7, 0.5 + 0.45 * len(names)))
    colours = ["#2b6cb0"] + ["#a0aec0"] * (len(names) - 1)
    axes.barh(names[::-1], medians[::-1], xerr=[below[::-1], above[::-1]], color=colours[::-1], capsize=3)
    axes.set_xlabel(table.question.unit + (" (more is better)" if table.question.higher else " (less is better)"))
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def write(where: dict[str, Any], tables: list[tuple[Asked, Table]]) -> None:
    RESULTS.mkdir(exist_ok=True)
    name = time.strftime("%Y-%m-%d")
    found = {
        "machine": where,
        "questions": {
            asked.question.name: {"title": asked.title, "target": asked.target, "runs": table.runs, "verdict": verdict}
            for asked, table in tables
            for verdict in [_verdict(asked, table)]
        },
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    text = markdown(where, tables)
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    for asked, table in tables:
        _plot(RESULTS / f"{asked.question.name}.svg", table)
    print(text)
