"""What the report says of claims: how many were decided, and by what."""

from collections import Counter
from typing import Any

from vit_registers.experiments.published_claims.verdicts import judge_all
from vit_registers.views.study import Study


def told(study: Study) -> dict[str, Any]:
    """``by_numbers``: verdicts on the claims that a number of this study was held against, counted; ``by_print``: on
    those that published numbers alone decide; ``contradicted``: the former that were contradicted, by id.
    """
    judged = judge_all(study)
    return {
        "by_numbers": Counter(each.verdict for each in judged if each.by == "this study"),
        "by_print": Counter(each.verdict for each in judged if each.by == "published numbers"),
        "contradicted": [
            each.claim.id for each in judged if each.by == "this study" and each.verdict == "contradicted"
        ],
    }
