"""How kukade2025 holds out validation images of data sets that bring none: by scikit-learn's stratified split."""

SHARE, SEED = 0.2, 42
