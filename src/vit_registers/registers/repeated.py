"""Detection repeated on a model whose register neurons are moved already: are there further ones (outliers2026)?"""

from collections.abc import Callable
from typing import Any

from vit_registers.interventions.base import applied
from vit_registers.interventions.kinds.test_time_registers import MovedNeurons, TestTimeRegisters
from vit_registers.models.backbone import Backbone
from vit_registers.params.passes import Detection

# What is kept of a repeated detection.
KEPT = ("found", "reason", "threshold", "outlier_layer", "share", "share_interval", "images_affected")


def rounds(
    settings: Detection, backbone: Backbone, first: dict[str, Any], look: Callable[[], dict[str, Any]]
) -> list[dict[str, Any]]:
    """What further rounds found, at most ``settings.repeats``; the last one may have found nothing.

    Before each of them the ``top_k`` neurons of all rounds so far are moved from the patches to one appended token.
    ``first``: what the first detection found; ``look``: detection, of the model as it is at the time.
    """
    latest, found = first, list[dict[str, Any]]()
    neurons: list[tuple[int, int]] = []
    while len(found) < settings.repeats and latest["found"]:
        neurons += [(int(layer), int(index)) for layer, index, _ in latest["neurons"][: settings.top_k]]
        with applied(backbone, MovedNeurons(TestTimeRegisters(tokens=1), tuple(neurons))):
            latest = look()
        kept = {key: latest[key] for key in KEPT if key in latest}
        found.append({**kept, "neurons": latest["neurons"][: settings.top_k]})
    return found
