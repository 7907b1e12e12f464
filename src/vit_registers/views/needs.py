"""What every view shows: the readouts whose rows it reads, and which files of single images.

Nothing is imported here, so that the workflow can read it before any job without loading a plotting library.
"""

TABLES: dict[str, tuple[str, ...]] = {
    "models": ("probe", "lost"),
    "detection": ("detection",),
    "test_time_registers": ("tokens", "probe", "lost"),
    "natural_models": ("detection", "tokens"),
    "positions": ("detection", "tokens"),
    "emergence": ("training",),
    "emergence_grid": ("training",),
    "neurons": ("neurons",),
    "neuron_overlap": ("neurons",),
    "classification": ("probe", "comparisons"),
    "register_sweep": ("tokens", "probe", "lost", "comparisons"),
    "local_information": ("information",),
    "token_classification": ("information",),
    "register_count": ("tokens", "probe", "lost"),
    "register_slots": ("tokens",),
    "lost_registers": ("lost", "comparisons"),
    "downstream_registers": ("probe", "dense", "zero_shot", "comparisons"),
    "register_cost": ("cost",),
    "training_energy": ("energy",),
    "probe": ("probe",),
    "lost_corloc": ("lost",),
    "lost_sweep": ("sweep",),
    "lost_grid": ("sweep",),
    "dense": ("dense",),
    "zero_shot": ("zero_shot",),
    "comparisons": ("comparisons",),
}
# Figures: readouts, and paths below results/readouts, one for each data set and model, or for each trained model where
# no data set is named.
FIGURES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "norms_by_layer": (("tokens",), ()),
    "cls_attention_by_layer": (("tokens",), ()),
    "norms_by_epoch": (("training",), ()),
    "attention_by_epoch": (("training",), ("training/{model}.maps.npz",)),
    "focus_by_epoch": (("training",), ("training/{model}.maps.npz",)),
    "register_cosine_by_epoch": (("training",), ()),
    "norms_by_size": (("detection", "tokens"), ()),
    "artifact_positions": (("detection",), ("tokens/{dataset}/{model}.maps.npz",)),
    "norms_by_position": ((), ("tokens/{dataset}/{model}.maps.npz",)),
    "norm_distributions": (("detection", "tokens"), ("tokens/{dataset}/{model}.histogram.parquet",)),
    "attention_distributions": (("tokens",), ("tokens/{dataset}/{model}.histogram.parquet",)),
    "attention_maps": (("tokens",), ("tokens/{dataset}/{model}.maps.npz",)),
    "attention_by_block": (("tokens",), ("tokens/{dataset}/{model}.maps.npz",)),
    "positional_focus": (("tokens",), ("tokens/{dataset}/{model}.maps.npz",)),
    "register_slots": (("tokens",), ("tokens/{dataset}/{model}.maps.npz",)),
    "lost_steps": (("lost",), ("lost/{dataset}/{model}.steps.npz",)),
    "lost_settings": (("sweep",), ()),
    "register_count": (("probe", "lost"), ()),
}
