"""What the report says of norms: how far artifacts stand out, and the largest norms where there are none."""

from typing import Any

from vit_registers.views import chosen
from vit_registers.views.study import Study


def told(study: Study) -> dict[str, Any]:
    """Models as they are, ``affected`` by artifacts and the ``others``."""
    moved = [(c, study.after(c)) for c in study.with_artifacts]
    compared = [(before, after) for before, after in moved if after and study.has(after, "norm_max")]
    gone = [before for before, after in compared if chosen.lower(study, after, before, "norm_max")]
    said = f"{chosen.names(study, gone)}: test-time registers lower the largest norms."
    return {
        "affected": [c for c in study.baselines if study.found(c)],
        "others": [c for c in study.baselines if not study.found(c)],
        "headlines": {"before_and_after": said} if gone else {},
    }
