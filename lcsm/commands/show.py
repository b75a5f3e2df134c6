"""Describe a model without training it: a card with stages, settings, shapes, structure, algorithm, size and cost."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lcsm.commands import page
from lcsm.commands.arguments import Option, read, usage_text
from lcsm.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

FORMATS = ("text", "markdown", "json")
OPTIONS = {
    "format": Option(str, "how to print", "text", choices=FORMATS),
    "vocab_size": Option(int, "vocabulary; none takes data.vocab_size, or bytes where the data decide"),
    "length": Option(int, "position at which state size and cost are given; none takes data.length"),
    "all": Option(bool, "one row for every named model, at task=lm model.d_model=256 unless said otherwise", False),
    "options": Option(bool, "one row for every option of the mixer and its stages, with the models that use it", False),
}
EXAMPLES = (
    "lcsm show model=attention",
    "lcsm show oscillation=dense mixer.state_dim=16 --format markdown",
    "lcsm show task=lm experiment=hybrid length=4096",
    "lcsm show --all --format markdown",
    "lcsm show --options",
)
WAYS = ("algorithm", "what it does", "cost", "FLOPs per token", "depth")
LEGEND = (
    "* is what runs; a stream takes recurrent steps. FLOPs are those of the memory, forward, and of\n"
    "B x and C m where the whole memory is read.\n"
    "Depth: operations of a sequence that wait for each other. C: tokens of a chunk."
)


def usage(arguments: Sequence[str]) -> str:
    """The text of `--help`."""
    text = usage_text("show", "Describe the model of a configuration.", OPTIONS, EXAMPLES)
    return text + "\nEverything that lcsm train takes: group=option, key=value, --config-dir DIR.\n"


def run(arguments: Sequence[str]) -> int:
    """Print the card of the model that the words of `lcsm train` would train."""
    options, words = read("show", arguments, OPTIONS)
    if options["all"]:
        return run_all(options, words)
    if options["options"]:
        return run_options(options["format"], words)

    from lcsm.config.compose import make_plan

    plan = make_plan(words)
    if plan.sweep:
        raise UsageError("lcsm show describes one model: leave out -m and give every key one value")

    from lcsm.commands.assemble import sizes
    from lcsm.commands.check_plan import check_models
    from lcsm.commands.describe import describe

    check_models(plan)
    config = plan.jobs[0].config
    vocab_size, length, labels = sizes(config)
    vocab_size = vocab_size if options["vocab_size"] is None else options["vocab_size"]
    length = length if options["length"] is None else options["length"]
    card = {"name": config["name"], "vocab_size": vocab_size, "length": length}
    card |= describe(config, vocab_size, length, labels)
    card["settings"] = {group: list(page.settings(config[group])) for group in ("model", "block")}
    for number, layer in enumerate(card["layers"]):
        layer["parts"] = page.parts(config, number, layer["stages"])
    if options["format"] == "json":
        sys.stdout.write(json.dumps(card) + "\n")
    elif options["format"] == "markdown":
        sys.stdout.write("\n".join(markdown(card)) + "\n")
    else:
        print_rich(card)
    return 0


def run_all(options: dict[str, Any], words: Sequence[str]) -> int:
    """Print the table of all named models."""
    from lcsm.commands import models_table as table
    from lcsm.commands.describe import check_length

    if options["vocab_size"] is not None:
        raise UsageError("lcsm show --all counts layers, which no vocabulary changes: leave out vocab_size")
    words, length = table.settings(words), 1024 if options["length"] is None else options["length"]
    check_length(length)
    rows = [table.row(name, words, length) for name in table.names()]
    if options["format"] == "json":
        sys.stdout.write(json.dumps(rows) + "\n")
    elif options["format"] == "markdown":
        sys.stdout.write(table.document(words, length, rows))
    else:
        from rich.console import Console
        from rich.table import Table

        # a terminal has no room for all
        columns = [key for key in table.COLUMNS if key != "golden"]
        found = Table(*(table.COLUMNS[key] for key in columns))
        for cells in rows:
            found.add_row(*(f"{cells[key]:,}" if key in table.NUMBERS else cells[key] for key in columns))
        Console().print(found)
    return 0


def run_options(form: str, words: Sequence[str]) -> int:
    """Print the table of all options of the mixer and its stages."""
    from lcsm.commands import options_table as table

    if words:
        raise UsageError(f"lcsm show --options describes the shipped files: leave out {' '.join(words)}")
    rows = table.rows()
    if form == "json":
        sys.stdout.write(json.dumps(rows) + "\n")
    elif form == "markdown":
        sys.stdout.write(table.document(rows))
    else:
        from rich.console import Console

        cells = [(row["group"], row["option"], row["class"], ", ".join(row["models"])) for row in rows]
        print_table(Console(), ("group", "option", "class", "models"), 0, cells)
    return 0


def facts(node: dict[str, Any]) -> list[tuple[str, str]]:
    """Size and cost of a layer or of the model, as text."""
    return [
        ("parameters", f"{node['parameters']:,}"),
        ("state", f"{node['state_size']:,} real numbers per sequence"),
        ("cost", f"{node['flops_per_token']:,} FLOPs per token"),
    ]


def general(card: dict[str, Any]) -> list[tuple[str, str]]:
    """Settings that all layers share."""
    return [(group, " ".join(words)) for group, words in card["settings"].items()]


def grouped(card: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Layers that are equal but for their name, under one heading."""
    groups: list[tuple[list[str], dict[str, Any]]] = []
    for layer in card["layers"]:
        content = {key: value for key, value in layer.items() if key != "name"}
        if groups and groups[-1][1] == content:
            groups[-1][0].append(layer["name"])
        else:
            groups.append(([layer["name"]], content))
    for names, content in groups:
        yield (names[0] if len(names) == 1 else f"{names[0]} to {names[-1].rpartition(' ')[2]}"), content


def heading(layer: dict[str, Any]) -> list[tuple[str, str]]:
    """The facts of a layer beside its stages."""
    return [
        ("mixer", layer["mixer"]),
        *([("memory", layer["memory"])] if layer["memory"] else []),
        ("structure", layer["structure"]),
        ("algorithm", f"{layer['algorithm']}: {layer['why']}"),
        ("channel", layer["channel"]),
        *facts(layer),
    ]


def ways(layer: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row per algorithm that could run, the chosen one marked."""
    return [
        (
            name + (" *" if name == layer["algorithm"] else ""),
            cost["form"],
            cost["order"],
            f"{cost['flops']:,}",
            f"{cost['depth']:,}",
        )
        for name, cost in layer["costs"].items()
    ]


def legend(card: dict[str, Any]) -> str:
    """The meaning of the words of a card."""
    return "\n".join([*([page.EQUATIONS] if any(layer["memory"] for layer in card["layers"]) else []), LEGEND])


def title(card: dict[str, Any]) -> str:
    """The first line of a card."""
    inputs = f"vocabulary {card['vocab_size']}" if card["vocab_size"] else "vectors"
    sizes = f"{len(card['layers'])} layers, {inputs}, at position {card['length']}"
    return f"{card['name']}: {sizes}"


def markdown(card: dict[str, Any]) -> Iterator[str]:
    """The lines of a card in Markdown."""
    yield f"# {title(card)}"
    yield ""
    yield from (f"- {name}: {value}" for name, value in [*facts(card), *general(card)])
    for name, layer in grouped(card):
        yield from ("", f"## {name}", "")
        yield from (f"- {key}: {value}" for key, value in heading(layer))
        yield from ("", f"| {' | '.join(page.COLUMNS)} |", f"|{' --- |' * len(page.COLUMNS)}")
        yield from map(page.row, layer["parts"])
        yield from ("", f"| {' | '.join(WAYS)} |", "| --- | --- | --- | ---: | ---: |")
        yield from (f"| {' | '.join(row)} |" for row in ways(layer))
    yield from ("", legend(card).replace("*", "\\*"))


def print_rich(card: dict[str, Any]) -> None:
    """The card on a terminal."""
    from rich.console import Console
    from rich.markup import escape
    from rich.padding import Padding
    from rich.table import Table

    console = Console()
    console.print(f"[bold]{escape(title(card))}[/bold]", highlight=False)
    print_pairs(console, [*facts(card), *general(card)])
    for name, layer in grouped(card):
        console.print(f"\n[bold]{escape(name)}[/bold]", highlight=False)
        print_pairs(console, heading(layer))
        parts = Table.grid(padding=(0, 2, 0, 0))
        for part in layer["parts"]:
            parts.add_row(*map(escape, page.cells(part)))
        console.print(Padding(parts, (1, 0, 0, 2), expand=False), highlight=False)
        print_table(console, WAYS, 2, ways(layer))
    console.print(legend(card), highlight=False)


def print_pairs(console: Console, pairs: Sequence[tuple[str, str]]) -> None:
    """Names and what is said of them."""
    from rich.markup import escape
    from rich.padding import Padding
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(min_width=10)
    for name, value in pairs:
        table.add_row(name, escape(value))
    console.print(Padding(table, (0, 0, 0, 2), expand=False), highlight=False)


def print_table(console: Console, columns: Sequence[str], numbers: int, rows: Sequence[tuple[str, ...]]) -> None:
    """A table whose last `numbers` columns hold numbers."""
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    for number, column in enumerate(columns, start=numbers - len(columns)):
        table.add_column(column, justify="left" if number < 0 else "right")
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)
