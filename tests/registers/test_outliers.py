import numpy as np
import pytest

from vit_registers.registers import outliers

NORMS = np.random.default_rng(0).gamma(2.0, 3.0, size=(7, 16)).astype(np.float32)


def middle(values):
    values = sorted(values)
    return (values[len(values) // 2 - 1] + values[len(values) // 2]) / 2 if len(values) % 2 == 0 else None


def test_a_ratio_is_to_the_median_of_all_patches_together():
    pooled = middle([float(x) for row in NORMS for x in row])
    assert outliers.threshold(NORMS, "ratio", 3.0) == pytest.approx(3.0 * pooled)


def test_an_absolute_threshold_is_itself():
    assert outliers.threshold(NORMS, "absolute", 150.0) == 150.0


def test_a_percentile_leaves_its_share_above_it():
    limit = outliers.threshold(NORMS, "percentile", 90.0)
    above = sum(1 for row in NORMS for x in row if x > limit)
    assert above == 12  # of 112: those beyond position .9 x 111
    assert outliers.find(NORMS, limit).share == pytest.approx(above / NORMS.size)


def test_shares_and_affected_images_are_counted_image_by_image():
    limit = 12.0
    found = outliers.find(NORMS, limit)
    counts = [sum(1 for x in row if x > limit) for row in NORMS]
    assert 0 < sum(1 for count in counts if count) < len(counts)
    assert found.share == pytest.approx(sum(counts) / NORMS.size)
    assert found.per_image.tolist() == pytest.approx([count / 16 for count in counts])
    assert found.images_affected == sum(1 for count in counts if count)


def test_a_patch_at_the_threshold_is_no_outlier():
    assert outliers.find(np.array([[2.0, 3.0, 4.0]], dtype=np.float32), 3.0).positions.tolist() == [
        [False, False, True]
    ]


def two_modes(share, ratio, spread=0.15):
    draw = np.random.default_rng(0)
    norms = 20.0 * np.exp(spread * draw.standard_normal((400, 64)))
    few = draw.random(norms.shape) < share
    return np.where(few, ratio * norms, norms), few


@pytest.mark.parametrize("share", [0.002, 0.03, 0.2])
@pytest.mark.parametrize("ratio", [3.0, 10.0])
def test_two_modes_are_parted_at_the_valley_between_them(share, ratio):
    norms, few = two_modes(share, ratio)
    limit = outliers.threshold(norms, "bimodal", 2.0)
    assert 20.0 < limit < 20.0 * ratio
    found = outliers.find(norms, limit)
    assert (found.positions != few).mean() < 0.002


@pytest.mark.parametrize(("share", "ratio"), [(0.0, 1.0), (0.05, 1.15), (0.5, 1.0)])
@pytest.mark.parametrize("spread", [0.05, 0.3])
def test_one_mode_has_no_outliers_whatever_its_width(share, ratio, spread):
    norms, _ = two_modes(share, ratio, spread)
    limit = outliers.threshold(norms, "bimodal", 2.0)
    assert limit == norms.max()
    assert outliers.find(norms, limit).share == 0.0


def test_a_heavy_tail_is_not_a_second_mode():
    norms = np.exp(np.random.default_rng(0).standard_t(5, (300, 64)) * 0.2 + 3.0)
    assert outliers.find(norms, outliers.threshold(norms, "bimodal", 2.0)).share == 0.0


def test_norms_that_are_all_the_same_have_no_outliers():
    norms = np.full((5, 16), 3.0, dtype=np.float32)
    assert outliers.find(norms, outliers.threshold(norms, "bimodal", 2.0)).share == 0.0


BY_BLOCK = [  # shares of outliers among 100 patches of 10 images at four blocks, and the block that decides
    ([0, 30, 28, 20], 3),  # they stay
    ([0, 30, 28, 10], 2),  # most are gone at the output
    ([0, 30, 0, 0], 1),
    ([0, 0, 0, 0], 3),  # there are none
    ([0, 0, 0, 1], 3),
    ([1, 0, 0, 0], 3),  # too few to count
]


@pytest.mark.parametrize(("counts", "expected"), BY_BLOCK)
def test_any_is_the_last_block_that_has_half_as_many_as_the_most(counts, expected):
    norms = np.ones((10, 4, 10), dtype=np.float32) * np.arange(1, 5, dtype=np.float32)[:, None]
    for block, count in enumerate(counts):
        for i in range(count):
            norms[i // 10, block, i % 10] = 100.0
    found = outliers.outlier_layer(norms, "ratio", 3.0, "any", 0.015)
    assert found.shares == pytest.approx([count / 100 for count in counts])
    assert found.thresholds == pytest.approx([3.0, 6.0, 9.0, 12.0])  # a median of each block
    assert found.layer == expected
    assert found.first == next((i for i, count in enumerate(counts) if count >= 2), None)
    assert outliers.outlier_layer(norms, "ratio", 3.0, -2, 0.015).layer == 2
    any_at_all = outliers.outlier_layer(norms, "ratio", 3.0, -1, 0.0).first
    assert any_at_all == next((i for i, count in enumerate(counts) if count), None)
