import numpy as np
import pytest

from vit_registers.core.numerics.boxes import best_centre_share, best_iou, centre_boxes, iou, random_boxes, tight


def whole_boxes(rng, n, limit=12):
    corners = np.sort(rng.integers(0, limit, size=(n, 2, 2)), axis=1)
    corners[:, 1] += 1
    return corners.reshape(n, 4).astype(float)


def pixels_of(box, limit=14):
    x0, y0, x1, y1 = (int(edge) for edge in box)
    return {(x, y) for x in range(limit) for y in range(limit) if x0 <= x < x1 and y0 <= y < y1}


def test_overlap_is_counted_in_pixels():
    rng = np.random.default_rng(0)
    a, b = whole_boxes(rng, 300), whole_boxes(rng, 300)
    counted = [len(pixels_of(p) & pixels_of(q)) / len(pixels_of(p) | pixels_of(q)) for p, q in zip(a, b, strict=True)]
    np.testing.assert_allclose(iou(a, b), counted)
    assert 0 < np.mean(np.array(counted) > 0) < 1


def test_overlap_broadcasts_and_knows_touching_empty_and_absent_boxes():
    boxes = np.array([[0, 0, 2, 2], [2, 0, 4, 2], [1, 1, 1, 1], [np.nan] * 4])
    expected = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(iou(boxes[:, None], boxes[None]), expected)


def test_the_best_of_each_images_own_truths_counts():
    rng = np.random.default_rng(1)
    truth = [whole_boxes(rng, n) for n in (1, 4, 2, 1, 3)]
    found = whole_boxes(rng, 5)
    slow = [max(float(iou(box, t)) for t in boxes) for box, boxes in zip(found, truth, strict=True)]
    np.testing.assert_allclose(best_iou(found, truth), slow)


def test_centre_boxes_are_centred_and_cover_their_share_of_each_side():
    np.testing.assert_allclose(centre_boxes(np.array([[40, 40], [100, 20]]), 0.5), [[10, 10, 30, 30], [25, 5, 75, 15]])


def test_the_share_of_the_centre_box_is_the_one_that_hits_most_and_the_smallest_of_equals():
    sizes = np.array([[100, 100]] * 5)
    truth = [np.array([[50 - h, 50 - h, 50 + h, 50 + h]], dtype=float) for h in (10, 30, 31, 32, 48)]
    hits = {}
    for percent in range(10, 101, 5):
        side = percent / 100 * 100
        box = np.array([50 - side / 2, 50 - side / 2, 50 + side / 2, 50 + side / 2])
        hits[percent / 100] = sum(float(iou(box, t[0])) >= 0.5 for t in truth)
    assert max(hits.values()) == 4  # the four large ones
    best = min(share for share, count in hits.items() if count == 4)
    assert best_centre_share(sizes, truth) == pytest.approx(best)


def test_random_boxes_have_uniform_corners_inside_their_images():
    sizes = np.array([[50, 20]] * 4000)
    boxes = random_boxes(sizes, np.random.default_rng(0))
    assert (boxes[:, :2] <= boxes[:, 2:]).all()
    assert (boxes >= 0).all()
    assert (boxes <= np.tile(sizes, 2)).all()
    # the smaller and the larger of two uniform draws
    np.testing.assert_allclose(boxes.mean(axis=0) / [50, 20, 50, 20], [1 / 3, 1 / 3, 2 / 3, 2 / 3], atol=0.02)
    assert abs(np.corrcoef(boxes[:, 0], boxes[:, 1])[0, 1]) < 0.05  # x and y are drawn apart
    np.testing.assert_array_equal(boxes, random_boxes(sizes, np.random.default_rng(0)))


def test_tight_boxes_are_those_of_the_extreme_pixels():
    rng = np.random.default_rng(2)
    masks = rng.random((40, 6, 9)) < rng.choice([0.03, 0.1, 0.6], size=(40, 1, 1))
    masks[0], masks[1] = False, True
    boxes = tight(masks)
    for mask, box in zip(masks, boxes, strict=True):
        ys, xs = np.nonzero(mask)
        assert box.tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1] if len(xs) else np.isnan(box).all()
    assert 0 < np.isnan(boxes[:, 0]).sum() < 40
