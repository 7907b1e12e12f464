"""A table as CSV and as LaTeX."""

import io
from typing import Any

import pandas as pd
import pytest

from vit_registers.core.prose import count, escape
from vit_registers.core.table import Format, Metric
from vit_registers.views.latex_text import estimate, number, probability
from vit_registers.views.study import Estimate
from vit_registers.views.table import Column, Table

SHARE = Metric("share_of_images", "share", "a share", better="higher", format="percent")


def share(*values: Any, **more: Any) -> Estimate:
    return Estimate(*values, of=SHARE, **more)


def test_escape_leaves_no_character_that_tex_acts_on() -> None:
    text = escape(r"a_b & 50% of $x$ #1 {y} ~ ^ \ [0, 1] < >")
    for character in "&%#_":
        assert text.count(character) == text.count("\\" + character), character
    assert r"\textbackslash{}" in text
    assert "{[}0, 1{]}" in text
    assert escape("plain words, 3-4") == "plain words, 3-4"


@pytest.mark.parametrize(
    ("value", "format_", "expected"),
    [
        (0.3904, "percent", "$39.0$"),
        (-0.19, "percent", "$-19.0$"),
        (1.0, "percent", "$100.0$"),
        (17.96, "number", "$18.0$"),
        (178.4, "number", "$178$"),
        (0.0, "number", "$0.00$"),
        (1234.5, "number", "$1{,}234$"),
        (2.0, "whole", "$2$"),
        (0.0000123, "number", r"$1.23 \times 10^{-5}$"),
    ],
)
def test_number(value: float, format_: Format, expected: str) -> None:
    assert number(value, format_) == expected


def test_signed_numbers_and_more_decimals() -> None:
    assert number(0.012, "percent", signed=True) == "$+1.2$"
    assert number(-0.0004, "percent", signed=True) == number(0.0, "percent", signed=True) == "$0.0$"
    assert number(0.00034, "percent", decimals=2) == "$0.03$"
    assert count(1234567) == "1{,}234{,}567"
    assert probability(0.0004) == "$<$0.001"
    assert probability(0.04) == "0.040"


def test_estimate_with_interval_without_and_absent() -> None:
    assert estimate(share(0.5, 0.4, 0.6, 10)) == "$50.0$ [$40.0$, $60.0$]"
    assert estimate(share(0.5)) == "$50.0$"
    assert estimate(Estimate(None)) == "--"


def _table() -> Table:
    table = Table([Column("name", "Name"), Column("a", "A"), Column("b", "B", p=True)], keys=("model",))
    table.add({"model": "m", "name": "M_1", "a": share(0.25, 0.2, 0.3, 1000), "b": Estimate(0.1, n=50, p=0.2)})
    table.add({"model": "k", "name": "K", "a": share(0.5, 0.4, 0.6, 1000), "b": Estimate(0.2, n=60)}, rule=True)
    return table


def test_n_stands_over_the_column_where_it_is_one_number_and_in_the_cells_where_not() -> None:
    lines = _table().latex().splitlines()
    assert r" & $n=1{,}000$ & ($n$) &  \\" in lines
    assert r"M\_1 & $25.0$ [$20.0$, $30.0$] & $0.100$ (50) & 0.200 \\" in lines
    assert r"K & $50.0$ [$40.0$, $60.0$] & $0.200$ (60) & -- \\" in lines
    assert lines[0] == r"\begin{tabular}{@{}lllr@{}}"


def test_rules_stand_before_marked_rows_but_never_before_the_first() -> None:
    table = Table([Column("a", "A")])
    for name in "xyz":
        table.add({"a": name}, rule=name != "z")
    lines = table.latex().splitlines()
    body = lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]
    assert body == [r"x \\", r"\midrule", r"y \\", r"z \\"]


def test_csv_holds_raw_numbers_and_reasons() -> None:
    table = _table()
    table.add(
        {
            "model": "q",
            "name": "Q",
            "a": Estimate(None, note="none: because"),
            "b": Estimate(None, note="none: because"),
        }
    )
    frame = pd.read_csv(io.StringIO(table.frame().to_csv(index=False)))
    assert list(frame) == ["model", "name", "a", "a_low", "a_high", "a_n", "b", "b_n", "b_p", "note"]
    assert frame["a"].tolist()[:2] == [0.25, 0.5]
    assert frame["b_n"].tolist()[:2] == [50, 60]
    assert pd.isna(frame["a"][2])
    assert frame["note"][2] == "none: because"


def test_one_reason_is_said_once_over_all_cells_without_a_number() -> None:
    table = _table()
    table.add({"name": "Q", "a": Estimate(None, note="none: because"), "b": Estimate(None, note="none: because")})
    assert r"Q & \multicolumn{3}{l}{\emph{none}} \\" in table.latex().splitlines()


def test_different_reasons_are_not_merged() -> None:
    table = _table()
    table.add({"name": "Q", "a": Estimate(None, note="one"), "b": Estimate(None, note="other")})
    assert r"Q & -- & \multicolumn{2}{l}{\emph{other}} \\" in table.latex().splitlines()


def test_a_group_heading_spans_its_columns_with_their_p() -> None:
    columns = [Column("a", "A"), Column("b", "B", group="G", p=True), Column("c", "C", group="G"), Column("d", "D")]
    lines = Table(columns, rows=[{"a": "x"}]).latex().splitlines()
    assert lines[2] == r" & \multicolumn{3}{c}{G} &  \\"
    assert lines[3] == r"\cmidrule(lr){2-4}"


def test_every_row_has_as_many_cells_as_the_tabular_has_columns() -> None:
    lines = [line for line in _table().latex().splitlines() if line.endswith(r"\\")]
    assert [line.count(" & ") for line in lines] == [3, 3, 3, 3]


def test_a_column_that_is_not_printed_is_in_the_csv_only() -> None:
    table = Table([Column("a", "A"), Column("b", "Hidden", printed=False)], rows=[{"a": "x", "b": Estimate(0.5)}])
    assert "Hidden" not in table.latex()
    assert table.latex().startswith(r"\begin{tabular}{@{}l@{}}")
    assert table.frame()["b"].tolist() == [0.5]


def test_a_table_without_rows_says_so() -> None:
    assert Table([Column("a", "A")], empty="nothing_here").latex() == "\\emph{nothing\\_here}\n"


def _long(rows: list[tuple[str, str, float]]) -> list[str]:
    columns = [Column("model", "Model"), Column("name", "Condition"), Column("a", "A")]
    table = Table(columns, long=True, heading="model", empty="nothing here")
    for model, name, value in rows:
        table.add({"model": model, "name": name, "a": Estimate(value, n=10)}, rule=bool(model))
    return table.latex().splitlines()


def test_a_long_table_repeats_its_head_and_names_each_group_once_above_it() -> None:
    lines = _long([("M_1", "as it is", 1.0), ("", "changed", 2.0), ("K", "as it is", 3.0)])
    assert lines[:2] == [r"\begin{longtable}{@{}ll@{}}", r"\resultcaption \\"]
    assert lines.count(r"Condition & A \\") == 2
    body = lines[lines.index(r"\endfoot") + 1 :]
    assert body == [
        r"\multicolumn{2}{@{}l}{\rlap{\parbox[t]{\linewidth}{\raggedright\textbf{M\_1}}}} \\*",
        r"\quad as it is & $1.00$ \\",
        r"\quad changed & $2.00$ \\",
        r"\addlinespace",
        r"\multicolumn{2}{@{}l}{\rlap{\parbox[t]{\linewidth}{\raggedright\textbf{K}}}} \\*",
        r"\quad as it is & $3.00$ \\",
        r"\end{longtable}",
    ]
    head, again = (
        lines[: lines.index(r"\endfirsthead")],
        lines[lines.index(r"\endfirsthead") : lines.index(r"\endhead")],
    )
    assert again[1] == r"\multicolumn{2}{@{}l}{\emph{continued}} \\"
    assert again[2:] == head[2:]
    assert lines[lines.index(r"\endhead") + 1] == r"\bottomrule"


def test_a_stacked_table_has_intervals_below_numbers_and_breaks_what_is_long() -> None:
    columns = [Column("model", "Model"), Column("name", "Condition"), Column("a", "Share of all images (%)")]
    table = Table(columns, stacked=True, heading="model")
    a, b = (
        Estimate(v, v - 0.1, v + 0.1, n, of=Metric("a", "share", "a", None, "percent")) for v, n in ((0.5, 9), (0.6, 8))
    )
    table.add({"model": "M", "name": "every token of all images", "a": a})
    table.add({"model": "", "name": "none", "a": b})
    lines = table.latex().splitlines()
    assert lines[0] == r"\begin{tabular}{@{}>{\raggedright\leftskip=1em\arraybackslash}p{9em}l@{}}"
    assert lines[2] == r"Condition & \shortstack[l]{Share of all \\ images (\%)} \\"
    assert lines[6] == r"every token of all images & \stacked{$50.0$ (9)}{[$40.0$, $60.0$]} \\"
    assert lines[7] == r"none & \stacked{$60.0$ (8)}{[$50.0$, $70.0$]} \\"


def test_a_long_table_without_rows_keeps_its_caption() -> None:
    assert _long([])[1:3] == [r"\resultcaption \\", r"\emph{nothing here} \\"]


def test_the_heading_is_a_column_of_the_csv() -> None:
    table = Table([Column("model", "Model"), Column("a", "A")], rows=[{"model": "M", "a": 1.0}], heading="model")
    assert list(table.frame()) == ["model", "a"]


def test_an_arrow_says_where_a_column_improves() -> None:
    worse = Metric("error", "share", "an error", better="lower")
    columns = [Column("a", "A"), Column("b", "B"), Column("c", "C")]
    rows = [{"a": share(0.5), "b": Estimate(1.0, of=worse), "c": Estimate(1.0, of=Metric("norm", "L2 norm", "a norm"))}]
    head = Table(columns, rows=rows).latex().splitlines()[2]
    assert head == r"A\,$\uparrow$ & B\,$\downarrow$ & C \\"
