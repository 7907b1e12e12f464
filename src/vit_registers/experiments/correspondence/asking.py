"""Which patches are sought where: second views that have passed, and pairs of images of one class with keypoints."""

from collections.abc import Iterator

import numpy as np

from vit_registers.core.errors import InputError
from vit_registers.core.seeds import generator
from vit_registers.data.images import load_image
from vit_registers.data.manifest import Manifest
from vit_registers.data.targets import object_shares, target_boxes
from vit_registers.data.transforms import Transform
from vit_registers.experiments.correspondence.params import Config
from vit_registers.experiments.correspondence.queries import (
    Annotated,
    Grid,
    Indices,
    InSecondViews,
    OfKeypoints,
    common,
    counterparts,
)
from vit_registers.extraction.store import Features

HALF = 0.5  # of a patch that is object


def grid_of(cached: Features) -> Grid:
    """The patches of a model's input."""
    return Grid(cached.layout.grid, cached.patch)


def in_second_views(manifest: Manifest, cached: Features) -> InSecondViews | None:
    """All patches of images that their second views show; None where no second view has passed."""
    if "pair_rows" not in cached.index["arrays"]:
        return None
    rows, grid = np.asarray(cached.array("pair_rows")), grid_of(cached)
    targets = np.stack([_targets(manifest, int(row), cached, grid) for row in rows])  # (n, p)
    shares = object_shares(manifest, rows, cached.index, grid.shape)
    views, cells = np.nonzero(targets >= 0)
    return InSecondViews(
        images=np.searchsorted(cached.dense_rows, rows)[views],
        cells=cells,
        galleries=views,
        pictures=manifest.numbers_of_views(rows),
        targets=targets[views, cells],
        patches=grid.patches,
        on_object=None if shares is None else shares[views, cells] >= HALF,
    )


def _targets(manifest: Manifest, row: int, cached: Features, grid: Grid) -> Indices:
    """Counterparts (p,) of the patches of an image in its second view."""
    given = manifest.second_view(row)
    if given is None:
        raise InputError(f"data set '{manifest.name}': row {row + 1} has no second view any more; extract again")
    width, height = load_image(manifest.root / given.pair).size
    view = Transform.of(cached.index, height, width)
    return counterparts(np.array(given.matrix), _transform(manifest, row, cached), view, grid)


def _transform(manifest: Manifest, row: int, cached: Features) -> Transform:
    """From the pixels of an image to the model's input."""
    height, width = (int(manifest.table[side].iloc[row]) for side in ("height", "width"))
    return Transform.of(cached.index, height, width)


def of_keypoints(cfg: Config, manifest: Manifest, cached: Features) -> OfKeypoints | None:
    """Keypoints of dense images, each in some others of its class; None where no two images of a class have some."""
    grid, found = grid_of(cached), _annotated(manifest, cached)
    pairs = list(_pairs(cfg, manifest, cached, sorted(found)))
    if not pairs:
        return None
    both = [common(found[source], found[target], grid, cfg.settings.reach) for source, target in pairs]
    counts = [len(cells) for cells, _ in both]
    return OfKeypoints(
        images=np.repeat([source for source, _ in pairs], counts),
        cells=np.concatenate([cells for cells, _ in both]),
        galleries=np.repeat([target for _, target in pairs], counts),
        pictures=cached.dense_rows,
        near=np.concatenate([near for _, near in both]),
    )


def _annotated(manifest: Manifest, cached: Features) -> dict[int, Annotated]:
    """Dense images with keypoints, by their place."""
    rows = cached.dense_rows
    found = {}
    for place, (row, boxes) in enumerate(zip(rows, target_boxes(manifest, rows), strict=True)):
        given = manifest.keypoints(int(row))
        if given is None:
            continue
        points = np.array([(x, y) for x, y, _ in given.keypoints])
        visible = np.array([seen for _, _, seen in given.keypoints])
        transform = _transform(manifest, int(row), cached)
        sides = boxes[:, 2:] - boxes[:, :2] if len(boxes) else np.array([[transform.width, transform.height]])
        found[place] = Annotated(points, visible, float(sides.max()), transform)
    return found


def _pairs(cfg: Config, manifest: Manifest, cached: Features, places: list[int]) -> Iterator[tuple[int, int]]:
    """Places of images of one class: each image with as many others as are asked for, or as there are.

    The images of a class stand in a random circle, and each is paired with those that follow it: so every image is
    source and target equally often, and pairs are the same for every model.
    """
    rows = cached.dense_rows[places]
    labels = manifest.table["label"].to_numpy()[rows] if manifest.labelled else np.zeros(len(rows), dtype=np.int64)
    found = []
    for label in np.unique(labels):
        members = np.array(places)[labels == label]
        _same_keypoints(manifest, cached.dense_rows[members])
        circle = generator(cfg.seed, "keypoint pairs", cfg.dataset, int(label)).permutation(members)
        for step in range(1, min(cfg.settings.targets, len(circle) - 1) + 1):
            found += list(zip(circle.tolist(), np.roll(circle, -step).tolist(), strict=True))
    yield from sorted(found)


def _same_keypoints(manifest: Manifest, rows: Indices) -> None:
    """Refuse images of one class that have different numbers of keypoints: which correspond is then not known."""
    counts = {int(row): len(known.keypoints) for row in rows if (known := manifest.keypoints(int(row))) is not None}
    first = next(iter(counts))
    for row, count in counts.items():
        if count != counts[first]:
            names = manifest.table["image_id"]
            raise InputError(
                f"data set '{manifest.name}': image '{names.iloc[row]}' has {count} keypoints and "
                f"'{names.iloc[first]}', of the same class, {counts[first]}; expected the same in the same order, "
                "those that are not visible included"
            )
