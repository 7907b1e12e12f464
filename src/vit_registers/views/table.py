"""A table as CSV with raw numbers and, for LaTeX, set by booktabs with rounded ones."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from vit_registers.core.files import replacing, write_text
from vit_registers.core.prose import count, escape
from vit_registers.views.latex_text import ABSENT, estimate, number, probability
from vit_registers.views.study import Estimate

HEADING, TEXT = 12, 18  # characters of a line of a stacked table, in headings and in cells
Cell = str | int | float | Estimate | None


@dataclass(frozen=True)
class Column:
    """One column: its key in the CSV, its heading, what it shows, and how LaTeX sets it.

    ``metric`` at the values ``where`` of axes is what its cells are; the direction in which it improves is an arrow in
    the heading.
    ``alignment`` is a column type of ``tabular``; ``signed`` prints the plus of positive numbers, for differences;
    ``decimals`` are those of percentages;
    ``p`` adds a column with the p-value behind the estimate, adjusted where it is of a family;
    without ``interval`` the number is printed alone, where its interval is printed elsewhere;
    ``group`` prints one heading over neighbouring columns;
    a column that is not ``printed`` is in the CSV only.
    """

    key: str
    title: str
    metric: str | None = None
    where: Mapping[str, Any] = field(default_factory=dict)
    alignment: str = "l"
    signed: bool = False
    decimals: int = 1
    p: bool = False
    interval: bool = True
    group: str | None = None
    printed: bool = True


@dataclass
class Table:
    """Rows of cells under columns; ``rules`` are the rows before which a thin rule stands.

    ``keys`` are columns of the CSV only: the keys of params that a row is about. ``empty`` is what the table says
    where it has no row; ``spaced`` sets rows apart, where they have several lines. A ``long`` one goes on over pages; a
    ``stacked`` one has intervals on a line below their numbers, and breaks its headings.
    The text of the column ``heading``, where a row has one, stands on a line of its own over that row and those below.
    Of more than ``most`` rows the first are printed, and how many are not; the CSV has all.
    """

    columns: Sequence[Column]
    keys: Sequence[str] = ()
    rows: list[dict[str, Cell]] = field(default_factory=list)
    rules: set[int] = field(default_factory=set)
    empty: str = "nothing was measured"
    spaced: bool = False
    long: bool = False
    stacked: bool = False
    heading: str | None = None
    most: int | None = None

    def add(self, row: Mapping[str, Cell], rule: bool = False) -> None:
        """Append a row, with a thin rule before it unless it is the first."""
        if rule and self.rows:
            self.rules.add(len(self.rows))
        self.rows.append(dict(row))

    def estimates(self, column: Column) -> list[Estimate]:
        """The estimates of a column."""
        return [cell for row in self.rows if isinstance(cell := row.get(column.key), Estimate)]

    # CSV: every number as it was measured.

    def frame(self) -> pd.DataFrame:
        """The table with raw numbers; an estimate is spread over value, interval and n, and p where it has one."""
        columns: dict[str, list[object]] = {key: [row.get(key) for row in self.rows] for key in self.keys}
        for column in self.columns:
            cells = [c.replace("\n", " ") if isinstance(c := row.get(column.key), str) else c for row in self.rows]
            if not self.estimates(column):
                columns[column.key] = list(cells)
                continue
            parts = [cell if isinstance(cell, Estimate) else Estimate(None) for cell in cells]
            columns[column.key] = [part.value for part in parts]
            for name in ("low", "high", "n", "p", "p_adjusted"):
                values = [getattr(part, name) for part in parts]
                if any(value is not None for value in values):
                    columns[f"{column.key}_{name}"] = values
        notes = [self._note(row) for row in self.rows]
        if any(notes):
            columns["note"] = list(notes)
        frame = pd.DataFrame(columns)
        whole = [name for name in columns if name.endswith("_n") or name in ("registers", "tokens")]
        return frame.astype(dict.fromkeys(whole, "Int64"))

    @staticmethod
    def _note(row: Mapping[str, Cell]) -> str | None:
        """Why a row lacks a number."""
        notes = [cell.note for cell in row.values() if isinstance(cell, Estimate) and cell.value is None]
        return next((note for note in notes if note), None)

    # LaTeX: what a person reads.

    @property
    def _printed(self) -> list[Column]:
        return [column for column in self.columns if column.printed and column.key != self.heading]

    @property
    def _width(self) -> int:
        return sum(2 if column.p else 1 for column in self._printed)

    def _n(self, column: Column) -> int | None:
        """What all estimates of a column rest on, where it is one number."""
        ns = {cell.n for cell in self.estimates(column) if cell.value is not None}
        return ns.pop() if len(ns) == 1 else None

    def _n_heading(self, column: Column) -> str:
        """``n`` once over the column, or that each cell says its own, or nothing where no number has one."""
        shown = self._n(column)
        if shown is not None:
            return f"$n={count(shown)}$"
        return "($n$)" if any(cell.n is not None for cell in self.estimates(column)) else ""

    def _cell(self, column: Column, row: Mapping[str, Cell]) -> list[str]:
        cell = row.get(column.key)
        if isinstance(cell, Estimate):
            n = f"({count(cell.n)})" if cell.n is not None and self._n(column) is None else ""
            shown = cell if column.interval else replace(cell, low=None, high=None)
            text = estimate(shown, column.signed, column.decimals, n, self.stacked)
            return [text, ABSENT if cell.p_shown is None else probability(cell.p_shown)] if column.p else [text]
        if cell is None:
            return [ABSENT] * (2 if column.p else 1)
        if isinstance(cell, float):
            return [number(cell)]
        return [count(cell) if isinstance(cell, int) else escape(cell).replace("\n", r" \newline ")]

    def _line(self, row: Mapping[str, Cell]) -> str:
        """One row; what has the same reason for having no number is said once, over all cells from there on."""
        cells: list[str] = []
        columns = self._printed
        for i, column in enumerate(columns):
            rest = [row.get(later.key) for later in columns[i:]]
            absent = [cell for cell in rest if isinstance(cell, Estimate) and cell.value is None]
            notes = {cell.note for cell in absent}
            if len(absent) == len(rest) and len(notes) == 1 and (note := notes.pop()) is not None:
                width = sum(2 if later.p else 1 for later in columns[i:])
                short = note.split(":")[0]  # the numbers behind it are in the CSV
                cells.append(rf"\multicolumn{{{width}}}{{l}}{{\emph{{{escape(short)}}}}}")
                break
            cells += self._cell(column, row)
        return " & ".join(cells) + r" \\"

    def _title(self, column: Column) -> str:
        """The heading of a column, of a stacked table in lines that are no wider than an interval."""
        if not self.stacked:
            return escape(column.title)
        lines = textwrap.wrap(column.title, HEADING, break_long_words=False)
        stacked = r" \\ ".join(map(escape, lines))
        return rf"\shortstack[l]{{{stacked}}}" if len(lines) > 1 else stacked

    def _alignment(self, column: Column) -> str:
        """The column type; long texts of a stacked table, whose rows have two lines anyway, are broken."""
        longest = max((len(cell) for row in self.rows if isinstance(cell := row.get(column.key), str)), default=0)
        if not self.stacked or longest <= TEXT:
            return column.alignment
        below = self.heading is not None and column is self._printed[0]
        indent = r"\leftskip=1em" if below else ""
        return rf">{{\raggedright{indent}\arraybackslash}}p{{{TEXT / 2:g}em}}"

    def _direction(self, column: Column) -> str:
        """An arrow to where a column improves, if its estimates have a better side."""
        better = {cell.of.better for cell in self.estimates(column) if cell.of is not None}
        arrow = {"higher": r"\,$\uparrow$", "lower": r"\,$\downarrow$", None: ""}
        return arrow[better.pop()] if len(better) == 1 else ""

    def _head(self) -> list[str]:
        lines: list[str] = []
        columns = self._printed
        if any(column.group for column in columns):
            cells, rules, start, i = [], [], 1, 0
            while i < len(columns):
                group, j, width = columns[i].group, i, 0
                while j < len(columns) and columns[j].group == group and (group or j == i):
                    width += 2 if columns[j].p else 1
                    j += 1
                cells.append(rf"\multicolumn{{{width}}}{{c}}{{{escape(group)}}}" if group else "")
                if group:
                    rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
                start, i = start + width, j
            lines += [" & ".join(cells) + r" \\", "".join(rules)]
        titles, ns = [], []
        for column in columns:
            titles.append(self._title(column) + self._direction(column))
            ns.append(self._n_heading(column))
            if column.p:
                titles.append("$p$")
                ns.append("")
        lines.append(" & ".join(titles) + r" \\")
        if any(ns):
            lines.append(" & ".join(ns) + r" \\")
        return lines

    @property
    def _shown(self) -> int:
        """How many rows are printed: of groups under a heading whole ones, if one is no longer than all may be."""
        if self.most is None or len(self.rows) <= self.most:
            return len(self.rows)
        starts = [i for i, row in enumerate(self.rows) if self.heading and row.get(self.heading) and i <= self.most]
        return max(starts, default=0) or self.most

    def _body(self) -> list[str]:
        lines: list[str] = []
        broken = self._alignment(self._printed[0]) != self._printed[0].alignment  # and indented in all its lines
        indent = r"\quad " if self.heading and not broken else ""
        shown = self._shown
        for i, row in enumerate(self.rows[:shown]):
            heads = row.get(self.heading) if self.heading else None
            if i and (heads or self.spaced):
                lines.append(r"\addlinespace")
            elif i in self.rules and not self.heading:
                lines.append(r"\midrule")
            if heads:
                # (of no width, so that the columns below do not have to fill it)
                text = rf"\rlap{{\parbox[t]{{\linewidth}}{{\raggedright\textbf{{{escape(str(heads))}}}}}}}"
                lines.append(rf"\multicolumn{{{self._width}}}{{@{{}}l}}{{{text}}} \\*")
            lines.append(indent + self._line(row))
        if shown < len(self.rows):
            said = f"{count(len(self.rows) - shown)} more in the CSV of this table"
            lines.append(rf"\multicolumn{{{self._width}}}{{@{{}}l}}{{\emph{{{said}}}}} \\")
        return lines

    def latex(self) -> str:
        """The ``tabular``, ready to stand under a caption; of a long one the ``longtable`` with ``\\resultcaption``."""
        if not self.rows and not self.long:
            return f"\\emph{{{escape(self.empty)}}}\n"
        if not self.rows:
            lines = [r"\begin{longtable}{@{}l@{}}", r"\resultcaption \\", rf"\emph{{{escape(self.empty)}}} \\"]
            return "\n".join([*lines, r"\end{longtable}", ""])
        alignment = "".join(self._alignment(column) + ("r" if column.p else "") for column in self._printed)
        head = [r"\toprule", *self._head(), r"\midrule"]
        if not self.long:
            lines = [rf"\begin{{tabular}}{{@{{}}{alignment}@{{}}}}", *head, *self._body(), r"\bottomrule"]
            return "\n".join([*lines, r"\end{tabular}", ""])
        again = rf"\multicolumn{{{self._width}}}{{@{{}}l}}{{\emph{{continued}}}} \\"
        lines = [rf"\begin{{longtable}}{{@{{}}{alignment}@{{}}}}", r"\resultcaption \\", *head, r"\endfirsthead"]
        lines += [again, *head, r"\endhead", r"\bottomrule", r"\endfoot", *self._body()]
        return "\n".join([*lines, r"\end{longtable}", ""])

    def write(self, folder: Path, name: str) -> None:
        """Write ``name.csv`` and ``name.tex`` to ``folder``."""
        with replacing(folder / f"{name}.csv") as temporary:
            self.frame().to_csv(temporary, index=False)
        write_text(folder / f"{name}.tex", self.latex())
