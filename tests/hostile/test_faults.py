"""Faults that were found from outside, by number: what became of each, and which cases here would find it again."""

import re
from pathlib import Path

MENDED = {
    "A1": "params: not UTF-8, UTF-16, aliases of themselves, keys that are lists, nesting, a folder in their place",
    "A2": "params on the command line are files; what is no JSON is refused",
    "A3": "a seed, an intervention or an experiment twice",
    "A4": "heads that do not divide the width, widths of 0, other colours than three, immense sizes",
    "A5": "images of billions of pixels; names that are no text",
    "A6": "CSV with NUL bytes, trailing commas, a folder in its place",
    "A7": "VOC: folders in place of lists and annotations, NUL bytes in a list",
    "A8": "COCO: infinite ids, deep JSON",
    "A9": "checkpoints that are text, lists, folders or not there",
    "A10": "artefacts of the pipeline cut, zeroed, emptied, or of other content",
    "A12": "a full disk, step by step",
    "A13": "folders and files without permission",
    "B1": "arrays that are gone are said when a run is planned, and made again once told to",
    "B2": "a table cut in the middle or at the end of a row",
    "B3": "weights that are not finite, means that are not",
    "B4": "settings that are not finite; shares of 0 and 1; values twice",
    "B5": "COCO boxes and sizes that are not finite or negative; categories of one name",
    "B6": "keys given twice in an overlay",
    "B8": "a class folder without permission (see A13)",
    "B10": "pipes in place of files",
    "D": "looking while a run is at work",
    "E1": "images replaced under their names",
    "E2": "16-bit images and floats",
    "E5": "records of Snakemake that are gone",
    "E7": "a table edited by hand",
    "E8": "what a dead process of another container left",
    "E9": "a damaged checkpoint",
    "E10": "code in params.yaml: refused; Snakemake itself runs that of a file given by --configfile before",
    "E11": "a full disk during extraction (see A12)",
    "E12": "comparisons across data sets; a split with a space",
    "E13": "braces and pluses in titles, names and paths",
    "E14": "figures of experiments that no run has",
    "E15": "alias bombs, immense depths",
    "E17": "a billion tokens",
}
# Mended by the shape of studies before these cases were written, or told by another number.
ELSEWHERE = {
    "A11": "collect names a measure, no file; train shared by several processes ends in the line of the first",
    "B7": "every study has folders of its own",
    "B9": "see E5, E7 and B2",
    "E3": "see B7",
    "E4": "Snakemake deletes what it is about to make again, weights as well; they are outputs, so that they are made again",
    "E6": "see B8",
    "E16": "what is there is listed, and warnings of unknown origin stand above it",
    "C": "the line of the step stands last; no shell command, no params",
}
HERE = Path(__file__).parent


def test_every_fault_that_was_mended_here_has_a_case():
    cases = "".join(path.read_text() for path in HERE.glob("test_*.py") if path != Path(__file__))
    missing = [number for number in MENDED if not re.search(rf"\b{number}\b", cases)]
    assert missing == []


def test_no_number_is_left_out():
    numbers = (
        [f"A{n}" for n in range(1, 14)] + [f"B{n}" for n in range(1, 11)] + ["C", "D"] + [f"E{n}" for n in range(1, 18)]
    )
    assert sorted([*MENDED, *ELSEWHERE]) == sorted(numbers)
