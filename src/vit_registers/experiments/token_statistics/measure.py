"""The step that describes tokens: norms and attention by layer and condition, and maps to look at."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vit_registers.core import table as metrics
from vit_registers.core.files import read_json, replacing
from vit_registers.core.linalg import cosines
from vit_registers.core.seeds import generator
from vit_registers.core.stats import Bootstrap
from vit_registers.core.table import Metric
from vit_registers.data import gallery
from vit_registers.data.manifest import Manifest
from vit_registers.data.targets import NO_BOXES
from vit_registers.experiments.token_statistics import grid_positions as positions
from vit_registers.experiments.token_statistics import register_maps as slots
from vit_registers.extraction.store import Features, condition_folder
from vit_registers.models.layout import TokenLayout
from vit_registers.pipeline.configs import TokensStep

GROUPS = ("cls", "registers", "patches")
# Of the histograms, the same for every condition and model.
EDGES = {"norm": np.logspace(-1, 5, 121), "attention": np.logspace(-5, 0, 101)}


def run(cfg: TokensStep, data: Path, features: Path, registers: Path, out: Path) -> None:
    """Write <model>.csv, <model>.histogram.parquet (last block) and <model>.maps.npz (gallery, positions) in ``out``.

    ``registers`` is what detection wrote: its threshold marks artifacts in every condition, so that shares compare.
    """
    manifest = Manifest.load(data)
    limit = float(read_json(registers)["threshold"])
    rows: list[Metric] = []
    histograms: list[pd.DataFrame] = []
    bootstrap: Bootstrap | None = None
    maps: dict[str, np.ndarray] = {}
    for condition in cfg.conditions:
        cached = Features.open(condition_folder(features, cfg.dataset, cfg.model, condition))
        if cached.status != "complete":
            for readout in ("norms", "attention"):
                rows.append(_row(cfg, condition, readout, "none", None, "", 0, note=cached.reason))
            continue
        norms, attention = cached.array("norms"), cached.array("attention")  # on disk until a part is needed
        if bootstrap is None:
            rng = generator(cfg.seed, "bootstrap", cfg.dataset, len(norms))
            bootstrap = Bootstrap(len(norms), cfg.statistics.resamples, cfg.statistics.confidence, rng)
        rows += _norms(cfg, condition, norms, cached.layout, limit, bootstrap)
        if cached.layout.cls:
            artifacts = np.asarray(norms[:, -1, cached.layout.patch_slice]) > limit
            rows += _attention(cfg, condition, attention, artifacts, cached.layout, bootstrap)
            rows += _alike(cfg, condition, attention, cached.layout, bootstrap)
        rows += _flow(cfg, condition, np.asarray(cached.array("flow")))
        histograms.append(_histogram(condition, "norm", norms[:, -1], cached.layout))
        if cached.layout.cls:
            received = np.asarray(attention[:, -1, 0], dtype=np.float32)
            histograms.append(_histogram(condition, "attention", received, cached.layout))
        chosen = gallery.choose(manifest, cached.dense_rows, cfg.gallery.images)
        if condition == "baseline":
            shown = cached.dense_rows[chosen]
            maps["image_id"] = manifest.table["image_id"].to_numpy()[shown].astype(str)
            maps["images"] = gallery.pixels(manifest, shown, cached.index)
            at, layer = norms[:, cfg.outlier_layer], cfg.outlier_layer % norms.shape[1]
            by_position = positions.by_position(at, limit, cached.layout)
            maps |= {f"baseline/{name}": values for name, values in by_position.items()}
            where = (cfg.model, cfg.dataset, condition)
            rows += positions.rows(where, at, limit, cached.layout, layer, bootstrap)
            if cached.layout.registers:
                last = _last(attention, cached.layout)
                maps["baseline/focus"] = _focus(last, cached.layout)
                inside = slots.objects(manifest, cached)
                rows += _slots(cfg, slots.slots(last, inside, cached.layout), bootstrap)
                if inside is None:
                    rows.append(_row(cfg, condition, "slots", "object_area", None, "fraction", 0, note=NO_BOXES))
                won = slots.winners(last[chosen][:, cached.layout.register_slice])
                maps["baseline/winners"] = won.reshape(-1, *cached.layout.grid)
        maps |= _maps(condition, norms[chosen, -1], attention[chosen].astype(np.float32), cached.layout)
    metrics.write(metrics.frame(rows), out / f"{cfg.model}.csv")
    with replacing(out / f"{cfg.model}.histogram.parquet") as temporary:
        pd.concat(histograms, ignore_index=True).to_parquet(temporary, index=False)
    with replacing(out / f"{cfg.model}.maps.npz") as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **maps)  # type: ignore[arg-type]  # its stub takes names for options


def _row(
    cfg: TokensStep, condition: str, readout: str, metric: str, value: float | None, unit: str, n: int, **more: Any
) -> Metric:
    return Metric(cfg.model, cfg.dataset, condition, readout, metric, value, unit, n, **more)


def _norms(
    cfg: TokensStep, condition: str, norms: np.ndarray, layout: TokenLayout, limit: float, bootstrap: Bootstrap
) -> list[Metric]:
    """Median, 99th percentile and mean per-image maximum of patch norms, artifact share, and means of other tokens."""
    rows: list[Metric] = []
    n = len(norms)
    for layer in range(norms.shape[1]):
        at = norms[:, layer]
        patches = at[:, layout.patch_slice]
        maxima = patches.max(axis=1).astype(float)
        shares = (patches > limit).mean(axis=1)
        for metric, values, unit in (("norm_max", maxima, "L2 norm"), ("artifact_share", shares, "fraction")):
            low, high = bootstrap.interval(values)
            rows.append(
                _row(cfg, condition, "norms", metric, float(values.mean()), unit, n, layer=layer, low=low, high=high)
            )
        summaries = {
            "norm_median": float(np.median(patches)),
            "norm_p99": float(np.percentile(patches, 99)),
            "norm_cls": at[:, layout.cls_slice].mean() if layout.cls else None,
            "norm_registers": at[:, layout.register_slice].mean() if layout.registers else None,
            "norm_appended": at[:, layout.appended_slice].mean() if layout.appended else None,
        }
        for metric, value in summaries.items():
            if value is not None:
                rows.append(_row(cfg, condition, "norms", metric, float(value), "L2 norm", n, layer=layer))
    return rows


def _attention(
    cfg: TokensStep,
    condition: str,
    attention: np.ndarray,
    artifacts: np.ndarray,
    layout: TokenLayout,
    bootstrap: Bootstrap,
) -> list[Metric]:
    """Where [CLS] looks, layer by layer: mean mass on each kind of token, on artifacts, and on its strongest patch.

    ``artifacts`` (m, p): the condition's own, at the last block.
    """
    rows: list[Metric] = []
    given = attention[:, :, 0].astype(np.float32)  # [CLS] is the first special token: (m, layers, t)
    parts = {
        "cls_to_cls": given[..., layout.cls_slice].sum(-1),
        "cls_to_registers": given[..., layout.register_slice].sum(-1),
        "cls_to_appended": given[..., layout.appended_slice].sum(-1),
        "cls_to_patches": given[..., layout.patch_slice].sum(-1),
        "cls_to_artifacts": (given[..., layout.patch_slice] * artifacts[:, None]).sum(-1),
        "cls_peak": given[..., layout.patch_slice].max(-1),
    }
    for metric, values in parts.items():
        for layer in range(values.shape[1]):
            at = values[:, layer].astype(float)
            low, high = bootstrap.interval(at)
            mean = float(at.mean())
            rows.append(
                _row(cfg, condition, "attention", metric, mean, "fraction", len(at), layer=layer, low=low, high=high)
            )
    return rows


def _alike(
    cfg: TokensStep, condition: str, attention: np.ndarray, layout: TokenLayout, bootstrap: Bootstrap
) -> list[Metric]:
    """How alike the maps of registers are, pair by pair, and to that of [CLS] (bach2025): cosines over patches."""
    rows: list[Metric] = []
    for layer in range(attention.shape[1] if layout.registers else 0):
        maps = attention[:, layer, : layout.prefix, layout.patch_slice].astype(np.float32)  # (m, 1 + r, p)
        for metric, at in cosines(maps, layout.cls).items():
            low, high = bootstrap.interval(at)
            mean = float(at.mean())
            rows.append(
                _row(cfg, condition, "attention", metric, mean, "cosine", len(at), layer=layer, low=low, high=high)
            )
    return rows


def _last(attention: np.ndarray, layout: TokenLayout) -> np.ndarray:
    """Maps (m, cls + r, p) of [CLS], where there is one, and the registers at the last block."""
    return np.asarray(attention[:, -1, : layout.prefix, layout.patch_slice], dtype=np.float32)


def _slots(cfg: TokensStep, found: list[slots.Slot], bootstrap: Bootstrap) -> list[Metric]:
    """Whether registers look at different regions, at the last block of the model as it is."""
    rows: list[Metric] = []
    for slot in found:
        low, high = bootstrap.interval(slot.of_images)
        mean, n = float(slot.of_images.mean()), len(slot.of_images)
        rows.append(_row(cfg, "baseline", "slots", slot.metric, mean, slot.unit, n, low=low, high=high))
    return rows


def _focus(last: np.ndarray, layout: TokenLayout) -> np.ndarray:
    """Mean over images of maps (m, cls + r, p) at the last block, on the grid: (cls + r, h, w)."""
    mean: np.ndarray = last.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean.reshape(-1, *layout.grid)


def _flow(cfg: TokensStep, condition: str, flow: np.ndarray) -> list[Metric]:
    """The nine-number flow (parodi2026) of each layer; groups that a model lacks have no rows."""
    mean = flow.mean(axis=0)
    return [
        _row(
            cfg,
            condition,
            "attention",
            f"flow_{a}_to_{b}",
            float(mean[layer, i, j]),
            "fraction",
            len(flow),
            layer=layer,
        )
        for layer in range(flow.shape[1])
        for i, a in enumerate(GROUPS)
        for j, b in enumerate(GROUPS)
        if not np.isnan(mean[layer, i, j])
    ]


def _histogram(condition: str, quantity: str, values: np.ndarray, layout: TokenLayout) -> pd.DataFrame:
    """Counts of tokens by norm, or by the attention [CLS] gives them (m, t), in log-spaced bins.

    The outermost bins hold what lies beyond, as zeroed tokens do.
    """
    edges = EDGES[quantity]
    kinds = {"patches": layout.patch_slice, "registers": layout.register_slice, "appended": layout.appended_slice}
    tables = []
    for kind, where in kinds.items():
        counts, _ = np.histogram(np.clip(values[:, where], edges[0], edges[-1]), bins=edges)
        table = pd.DataFrame({"bin_left": edges[:-1], "bin_right": edges[1:], "count": counts})
        tables.append(table[table["count"] > 0].assign(intervention=condition, quantity=quantity, token=kind))
    return pd.concat(tables, ignore_index=True)


def _maps(condition: str, norms: np.ndarray, attention: np.ndarray, layout: TokenLayout) -> dict[str, np.ndarray]:
    """Maps over the patches of the gallery images (g): last norms (g, h, w), attention (g, layers, [tokens,] h, w)."""
    over = attention[..., layout.patch_slice].reshape(*attention.shape[:3], *layout.grid)
    prefix = layout.prefix
    maps = {f"{condition}/norms": norms[:, layout.patch_slice].reshape(-1, *layout.grid)}
    if layout.cls:
        maps[f"{condition}/cls"] = over[:, :, 0]
    if layout.registers:
        maps[f"{condition}/registers"] = over[:, :, layout.cls : prefix]
    if layout.appended:
        maps[f"{condition}/appended"] = over[:, :, prefix:]
    return maps
