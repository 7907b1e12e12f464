"""The published numbers of parodi2026: what a reader recomputed from the authors' own files."""

import copy
import json
import re

import pytest

from vit_registers.claims import errata
from vit_registers.claims.published import numbers
from vit_registers.claims.published.numbers import (
    DINOV3,
    PLAIN,
    REGISTERS,
    attention,
    correspondence,
    lesions,
    probe,
    score,
)


@pytest.fixture
def findings():
    return judged()


@pytest.fixture
def reread():
    """The file is read again afterwards."""
    yield
    numbers.published.cache_clear()


def judged():
    found = [*errata.findings(), *errata.beyond_the_ledger()]
    return {finding.claim: finding for finding in found if finding.claim.startswith("parodi2026-")}


def test_the_file_has_numbers_and_where_they_are_from_but_no_paths():
    content = numbers.published()
    assert content["source"]["commit"] == "40adf26"
    assert content["source"]["date"] == "2026-03-11"
    assert len(content["source"]["sha256"]) == 6
    assert not re.search(r"\\|Users|C:|\.png", numbers.PUBLISHED.read_text())


@pytest.mark.parametrize("model", [PLAIN, REGISTERS, DINOV3])
def test_attention_of_a_token_adds_to_one(model):
    for source in ("cls", "patches"):
        flows = [attention(model, f"{source}_to_{target}") for target in ("cls", "registers", "patches")]
        assert [sum(shares) for shares in zip(*flows, strict=True)] == pytest.approx([100.0] * 12, abs=1e-3)


@pytest.mark.parametrize(
    ("model", "flow", "expected"),
    [
        (PLAIN, "patches_to_cls", ".357 .220 .204 .133 .154 .133 .080 .133 .107 .180 .308 .052"),
        (REGISTERS, "cls_to_registers", ".301 .366 .393 .296 .232 .203 .435 .339 .412 .208 .232 .185"),
        (DINOV3, "patches_to_registers", ".004 .195 .279 .134 .166 .142 .135 .197 .196 .256 .339 .064"),
    ],
)
def test_attention_by_layer(model, flow, expected):
    assert [share / 100 for share in attention(model, flow)] == pytest.approx(
        [float(share) for share in expected.split()], abs=6e-4
    )


def test_probes_lesions_and_correspondence():
    assert (probe(DINOV3, "r1")[10], probe(DINOV3, "r1")[11]) == pytest.approx((10.72, 3.04))
    assert (probe(DINOV3, "r3")[10], probe(DINOV3, "r3")[11]) == pytest.approx((28.85, 50.13))
    assert lesions(REGISTERS) == pytest.approx({"r1": 0.02, "r2": -4.90, "r3": -0.18, "r4": 0.05}, abs=1e-6)
    assert lesions(DINOV3) == pytest.approx({"r1": -1.76, "r2": -0.45, "r3": -2.70, "r4": -0.14}, abs=1e-6)
    peaks = {
        model: max(correspondence(model).items(), key=lambda pair: pair[1]) for model in (PLAIN, REGISTERS, DINOV3)
    }
    assert {model: layer for model, (layer, _) in peaks.items()} == {PLAIN: 6, REGISTERS: 8, DINOV3: 8}
    assert [value for _, value in peaks.values()] == pytest.approx([82.5, 86.1, 83.6], abs=0.06)
    assert score(DINOV3, "zero_registers", "g1") == pytest.approx(25.4)


@pytest.mark.parametrize(
    ("claim", "verdict", "computed"),
    [
        ("parodi2026-dinov2-patch-to-cls-min", "contradicted", 5.2354),
        ("parodi2026-dinov2-patch-to-cls-max", "reproduced", 35.7262),
        ("parodi2026-dinov3-attn-gradual", "contradicted", 6.3678),
        ("parodi2026-dinov3-patch-to-reg", "contradicted", 6.3678),
        ("parodi2026-dinov3-patch-to-r1", "contradicted", 6.3678),
        ("parodi2026-dinov2reg-cls-to-reg", "contradicted", 43.5002),
        ("parodi2026-dinov3-cls-to-registers", "inconclusive", 28.6596),
        ("parodi2026-dinov2reg-individual-sum", "inconclusive", -5.01),
        ("parodi2026-dinov3-individual-sum", "contradicted", -5.05),
        ("parodi2026-non-additive", "reproduced", 18.9 / 5.01),
        ("parodi2026-correspondence-by-depth", "contradicted", -4.6877),
        ("parodi2026-dinov2reg-early-probe", "reproduced", 5.82),
        ("parodi2026-dinov3-early-probe", "inconclusive", 14.01),
        ("parodi2026-dinov3-r1-layer10", "reproduced", 10.72),
        ("parodi2026-dinov3-r3-rise", "reproduced", 21.28),
        ("parodi2026-dinov2reg-zero-r2-delta", "reproduced", -4.90),
        ("parodi2026-dinov2reg-zero-other-delta", "reproduced", 0.18),
    ],
)
def test_known_answers(findings, claim, verdict, computed):
    assert findings[claim].verdict == verdict
    assert findings[claim].computed == pytest.approx(computed, abs=1e-4)


def test_one_register_of_one_model_has_the_patches_of_another(findings):
    assert findings["parodi2026-dinov3-r1-texture"].verdict == "contradicted"
    assert findings["parodi2026-dinov3-r1-texture"].computed == "5 of 5 shared"
    assert findings["parodi2026-dinov2reg-gallery-others-cosine"].verdict == "contradicted"


def test_registers_spare_one_global_task_of_four(findings):
    assert findings["parodi2026-double-dissociation"].computed == "1 of 4"


@pytest.mark.parametrize(
    ("place", "value", "claim", "verdict"),
    [
        (
            ("attention", PLAIN, "mean", "patches_to_cls"),
            [0.25] * 12,
            "parodi2026-dinov2-patch-to-cls-min",
            "reproduced",
        ),
        (
            ("attention", DINOV3, "mean", "patches_to_registers"),
            [layer / 40 for layer in range(12)],
            "parodi2026-dinov3-attn-gradual",
            "reproduced",
        ),
        (("ablations", DINOV3, "full", "g1"), 0.61, "parodi2026-dinov3-g1-full", "contradicted"),
        (("ablations", DINOV3, "zero_registers", "g2"), 1.0, "parodi2026-zero-registers-hurts-all", "contradicted"),
        (
            ("register_lesions", "scores", REGISTERS, "r4", "cls"),
            0.66,
            "parodi2026-dinov2reg-zero-other-delta",
            "contradicted",
        ),
        (
            ("nearest_patches", DINOV3, "registers", "r1", "image"),
            [1, 2, 3, 4, 5],
            "parodi2026-dinov3-r1-texture",
            "inconclusive",
        ),
        (
            ("register_probe", DINOV3, "scores", "r3"),
            [0.0] * 7,
            "parodi2026-dinov3-r3-probe",
            "contradicted",
        ),
    ],
)
def test_a_changed_published_number_changes_the_verdict(
    tmp_path, monkeypatch, findings, reread, place, value, claim, verdict
):
    content = copy.deepcopy(numbers.published())
    within = content
    for key in place[:-1]:
        within = within[key]
    within[place[-1]] = value
    (tmp_path / "changed.json").write_text(json.dumps(content))
    monkeypatch.setattr(numbers, "PUBLISHED", tmp_path / "changed.json")
    numbers.published.cache_clear()
    assert findings[claim].verdict != verdict
    assert judged()[claim].verdict == verdict
