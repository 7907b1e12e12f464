import numpy as np
import pytest

from vit_registers.registers import artifacts

NORMS = np.random.default_rng(0).gamma(2.0, 3.0, size=(7, 16)).astype(np.float32)


def middle(values):
    values = sorted(values)
    return (values[len(values) // 2 - 1] + values[len(values) // 2]) / 2 if len(values) % 2 == 0 else None


def test_a_ratio_is_to_the_median_of_all_patches_together():
    pooled = middle([float(x) for row in NORMS for x in row])
    assert artifacts.threshold(NORMS, "ratio", 3.0) == pytest.approx(3.0 * pooled)


def test_an_absolute_threshold_is_itself():
    assert artifacts.threshold(NORMS, "absolute", 150.0) == 150.0


def test_a_percentile_leaves_its_share_above_it():
    limit = artifacts.threshold(NORMS, "percentile", 90.0)
    above = sum(1 for row in NORMS for x in row if x > limit)
    assert above == 12  # of 112: those beyond position .9 x 111
    assert artifacts.find(NORMS, limit).share == pytest.approx(above / NORMS.size)


def test_shares_and_affected_images_are_counted_image_by_image():
    limit = 12.0
    found = artifacts.find(NORMS, limit)
    counts = [sum(1 for x in row if x > limit) for row in NORMS]
    assert 0 < sum(1 for count in counts if count) < len(counts)
    assert found.share == pytest.approx(sum(counts) / NORMS.size)
    assert found.per_image.tolist() == pytest.approx([count / 16 for count in counts])
    assert found.images_affected == sum(1 for count in counts if count)


def test_a_patch_at_the_threshold_is_no_artifact():
    assert artifacts.find(np.array([[2.0, 3.0, 4.0]], dtype=np.float32), 3.0).positions.tolist() == [
        [False, False, True]
    ]
