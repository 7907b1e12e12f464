"""What the report says of the comparisons of a study: how many differences are shown, excluded, or left open."""

from typing import Any

from vit_registers.views.study import Study


def told(study: Study) -> dict[str, Any]:
    """``verdicts``: how many tests say that two conditions differ, are the same, or leave that open."""
    found = study.metric_rows("equivalent")["verdict"].dropna().astype(str)
    counts = {name: int(found.str.startswith(name).sum()) for name in ("differs", "the same", "open")}
    return {"verdicts": counts, "tested": sum(counts.values())}
