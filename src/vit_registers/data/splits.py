"""Splits that a data set does not bring: drawn from it, with all classes in every part."""

import numpy as np
import pandas as pd

from vit_registers.core.errors import InputError


def stratified(
    labels: np.ndarray, share: float, rng: np.random.Generator, classes: list[str], source: str
) -> np.ndarray:
    """Boolean mask (n,) of a stratified draw: of every class ``share`` of its images, at least one, never all."""
    drawn = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if len(rows) < 2:
            raise InputError(f"{source}: class '{classes[label]}' has one image; a stratified split needs two or more")
        count = min(max(round(share * len(rows)), 1), len(rows) - 1)
        drawn[rng.permutation(rows)[:count]] = True
    return drawn


def subset(labels: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """``count`` rows of ``labels`` (n,), ascending: of every class equally many up to one, while it has any left.

    A smaller subset of the same draw is part of a larger one.
    """
    order = rng.permutation(len(labels))
    drawn = labels[order]
    turn = pd.Series(drawn).groupby(drawn).cumcount().to_numpy()  # how many of its class were drawn before it
    return np.sort(order[np.argsort(turn, kind="stable")[:count]])


def held_out(labels: np.ndarray, share: float, seed: int, source: str) -> np.ndarray:
    """Boolean mask (n,) of the validation rows that scikit-learn's ``train_test_split`` draws, stratified by label.

    Published code draws them so: the same rows in the same order and the same seed give the same images.
    """
    from sklearn.model_selection import train_test_split

    try:
        _, chosen = train_test_split(np.arange(len(labels)), test_size=share, random_state=seed, stratify=labels)
    except ValueError as error:
        raise InputError(f"{source}: no stratified split of it can be drawn ({error}); add images") from None
    mask = np.zeros(len(labels), dtype=bool)
    mask[chosen] = True
    return mask
