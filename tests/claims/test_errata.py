"""Findings from published numbers: known answers, completeness, and that a changed number changes the verdict."""

from collections import Counter

import pytest

from vit_registers.claims import errata, ledger, register_cost
from vit_registers.claims.judging import Entries, agree, disagreement, judges, smallest_test_set
from vit_registers.core.errors import InputError

VERDICTS = {
    "kukade2025": {"contradicted": 31, "reproduced": 4, "inconclusive": 7},
    "bach2025": {"contradicted": 13, "inconclusive": 12, "reproduced": 1},
    "parodi2026": {"inconclusive": 16, "reproduced": 59, "contradicted": 18},
    "darcet2024": {"contradicted": 8, "inconclusive": 3, "reproduced": 2},
    "lappe2025": {"contradicted": 3, "inconclusive": 5},
}
OPENCLIP_WITH_REGISTERS = [f"darcet2024-lost-openclip-{dataset}-reg" for dataset in ("voc07", "voc12", "coco20k")]


@pytest.fixture(scope="module")
def found():
    return {finding.claim: finding for finding in errata.findings()}


def verdict_with(claim, values):
    """The verdict on ``claim`` in a ledger with other values."""
    claims = [
        entry.model_copy(update={"value": values[entry.id]}) if entry.id in values else entry for entry in ledger.load()
    ]
    return next(finding.verdict for finding in errata.findings(claims) if finding.claim == claim)


def test_every_suspect_entry_has_one_finding_in_the_order_of_the_ledger(found):
    listed = [finding.claim for finding in errata.findings()]
    assert len(listed) == len(set(listed))
    order = [claim.id for claim in ledger.load()]
    assert listed == sorted(listed, key=order.index)
    suspect = {claim.id for claim in ledger.load() if claim.suspect}
    assert len(suspect) == 109
    assert not suspect - set(found)


def test_verdicts_are_those_that_the_reasons_were_written_for(found):
    """A change of data or ledger that moves a verdict asks for another sentence beside it."""
    counted = {
        source: Counter(finding.verdict for claim, finding in found.items() if claim.startswith(source))
        for source in ledger.sources()
    }
    assert counted == VERDICTS


def test_findings_are_one_line_and_say_what_was_computed():
    for finding in [*errata.findings(), *errata.beyond_the_ledger()]:
        assert finding.verdict in ("reproduced", "contradicted", "inconclusive")
        assert finding.reason
        assert finding.computation
        assert "\n" not in finding.computation + finding.reason
        assert "nan" not in finding.computation


# Worked out by hand from the printed numbers: differences, ratios, multiples of 1/n, means.
@pytest.mark.parametrize(
    ("claim", "verdict", "computed"),
    [
        ("kukade2025-dinov2-aptos-delta-text", "contradicted", 0.27),
        ("kukade2025-dinov2-pacemaker-delta-text", "contradicted", -1.33),
        ("kukade2025-range-abstract-min", "contradicted", -1.64),
        ("kukade2025-swing-larger-in-dinov2", "inconclusive", 5.77 - 3.86),
        ("kukade2025-reduction-range-min", "contradicted", 75.4545),
        ("kukade2025-original-protocols-kept", "contradicted", 366),
        ("kukade2025-clip-map-columns", "contradicted", 13),
        ("kukade2025-pacemaker-test-size", "reproduced", 225),
        ("kukade2025-changes-few-images", "reproduced", 8),
        ("kukade2025-medical-benefit-more", "contradicted", -0.685 - 0.225),
        ("bach2025-mse-increase", "contradicted", 47.0922),
        ("bach2025-overall-gain-modest", "contradicted", -0.08),
        ("bach2025-lost-plateau", "contradicted", 0.98),
        ("bach2025-carbon-pue", "contradicted", 1.0985),
        ("bach2025-carbon-energy", "contradicted", 0.6336),
        ("bach2025-tokcls-dinov2-small-imagenette-gap-reg", "reproduced", 1.02),
        ("bach2025-train-batch-size", "inconclusive", 1024),
        ("darcet2024-linear-openclip-imagenet-delta", "reproduced", -0.1),
        ("darcet2024-lost-openclip-smaller-gain", "contradicted", -1.7),
    ],
)
def test_known_answers_of_arithmetic(found, claim, verdict, computed):
    assert found[claim].verdict == verdict
    assert found[claim].computed == pytest.approx(computed, abs=6e-4)


@pytest.mark.parametrize(
    ("claim", "values", "verdict"),
    [
        ("kukade2025-dinov2-aptos-delta-text", {"kukade2025-dinov2-aptos-ttr": 0.8192}, "reproduced"),
        ("kukade2025-dinov2-map-onset", {"kukade2025-dinov2-map-onset": 18}, "reproduced"),
        ("kukade2025-clip-patch-attn-median", {"kukade2025-clip-patch-attn-median": 0.002}, "reproduced"),
        ("kukade2025-orthonet-class-count", {"kukade2025-orthonet-class-count": 12}, "reproduced"),
        ("kukade2025-orthonet-test-size", {"kukade2025-clip-orthonet-ttr": 0.5511}, "contradicted"),
        ("bach2025-mse-increase", {"bach2025-mse-high-norm": 120.02 * 2.471}, "reproduced"),
        ("bach2025-carbon-energy", {"bach2025-carbon-pue": 1.1}, "reproduced"),
        ("bach2025-lost-plateau", {"bach2025-lost-deit3-reg16": 18.1}, "reproduced"),
        ("darcet2024-lost-all-models-improve", dict.fromkeys(OPENCLIP_WITH_REGISTERS, 50.0), "reproduced"),
        ("darcet2024-linear-deit3-nyud-delta", {"darcet2024-linear-deit3-nyud-reg": 0.514}, "contradicted"),
        ("darcet2024-flops-16-registers", {"darcet2024-flops-16-registers": 9}, "reproduced"),
        ("parodi2026-dinov3-g1-full", {"parodi2026-dinov3-g1-full": 61.0}, "contradicted"),
        ("parodi2026-dinov3-patch-to-reg", {"parodi2026-dinov3-patch-to-reg": 6.4}, "reproduced"),
        ("parodi2026-dinov3-individual-sum", {"parodi2026-dinov3-individual-sum": -5.1}, "reproduced"),
    ],
)
def test_a_changed_number_in_the_ledger_changes_the_verdict(found, claim, values, verdict):
    assert found[claim].verdict != verdict
    assert verdict_with(claim, values) == verdict


def test_registers_cost_what_the_sum_written_out_says():
    """Two operations for each product of a plain ViT at 224 pixels: embedding, q k v, attention, output, MLP."""

    def by_hand(patch, width, depth, registers):
        patches = (224 // patch) ** 2
        tokens = 1 + registers + patches
        return 2 * patches * 3 * patch**2 * width + depth * (24 * tokens * width**2 + 4 * tokens**2 * width)

    counted = {registers: register_cost.increases(registers) for registers in (4, 16)}
    for label, shape in {"DeiT-III B/16": (16, 768, 12), "DINOv2 L/14": (14, 1024, 24)}.items():
        for registers, increases in counted.items():
            expected = 100 * (by_hand(*shape, registers) / by_hand(*shape, 0) - 1)
            assert increases[label] == pytest.approx(expected, rel=1e-6)
    assert (min(counted[4].values()), max(counted[4].values())) == pytest.approx((1.60, 2.10), abs=0.006)
    assert (min(counted[16].values()), max(counted[16].values())) == pytest.approx((6.40, 8.43), abs=0.006)


def test_the_test_set_is_the_smallest_that_fits():
    """Against every count of correct images, written out."""

    def fits(images, printed):
        return all(any(f"{right / images:.4f}" == text for right in range(images + 1)) for text in printed)

    for images in (180, 225, 366):
        printed = [f"{right / images:.4f}" for right in (images // 3, images // 2 + 1, images - 7, 11)]
        smallest = next(count for count in range(1, 1001) if fits(count, printed))
        assert smallest_test_set(float(text) for text in printed) == smallest == images
    assert smallest_test_set([0.12345, 0.5], decimals=5, largest=100) == 0


def test_agreement_is_to_the_printed_digit():
    assert agree(0.27, 0.3, 1)
    assert not agree(0.24, 0.3, 1)
    assert agree(-5.01, -5.2, 1, summands=4)
    assert not agree(-5.01, -5.2, 1)


def test_a_judgement_that_cites_what_is_not_there_is_refused_by_name():
    entries = Entries(ledger.load())
    with pytest.raises(InputError, match="no claim somebody2027-more"):
        disagreement("somebody2027-more", "inconclusive", "reason", says="nothing").findings(entries)
    with pytest.raises(InputError, match="parodi2026-zero-layer has no value"):
        entries.number("parodi2026-zero-layer")
    with pytest.raises(InputError, match="bach2025-mse-increase has no setting"):
        entries.setting("bach2025-mse-increase")


def test_only_a_quoted_sentence_may_lack_an_entry():
    ids = {claim.id for claim in ledger.load()}
    beyond = errata.beyond_the_ledger()
    assert {finding.claim for finding in beyond}.isdisjoint(ids)
    assert all(finding.sentence for finding in beyond)
    assert all(not finding.sentence for finding in errata.findings())


def test_a_judge_gives_each_of_its_claims_a_finding():
    @judges("bach2025-mse-high-norm", "bach2025-mse-low-norm")
    def judge(claim, entries):
        return disagreement(claim, "inconclusive", "reason", says="nothing").find(claim, entries)

    assert [finding.claim for finding in judge.findings(Entries(ledger.load()))] == list(judge.claims)
