"""Passages of lappe2025 that leave open what was done; no number of it decides them."""

from vit_registers.claims.judging import disagreement

WORDING = (
    disagreement(
        "lappe2025-attention-normalisation",
        "contradicted",
        "With the CLS key in the softmax the two shares add to one minus CLS's attention to "
        "itself; it must have been left out "
        "and the rest divided by its sum, which is not said. Eq. (1) also lacks the scale of the root of d.",
        says="Eq. (1): the softmax runs over CLS, registers and patches",
    ),
    disagreement(
        "lappe2025-ablate-attention",
        "inconclusive",
        "Zeroing after the softmax and masking before it differ.",
        says="no passage says whether weights are renormalised, nor what happens to CLS's attention to itself",
    ),
    disagreement(
        "lappe2025-cka-dataset",
        "inconclusive",
        "The word again suggests the same images.",
        cites="lappe2025-attention-dataset",
    ),
    disagreement(
        "lappe2025-oneshot-protocol",
        "inconclusive",
        "Classifier, number of draws and seed are needed to repeat it.",
        says="no passage names the classifier, the number of random draws or the seed",
    ),
    disagreement(
        "lappe2025-oneshot-split",
        "contradicted",
        "It must be the validation set.",
        says="from beyond the source: labels of ImageNet-1k's test set are not public",
    ),
    disagreement(
        "lappe2025-oneshot-metric",
        "inconclusive",
        "The caption may mean either.",
        says="Fig. 3b, caption: classification accuracy",
    ),
    disagreement(
        "lappe2025-skip-definition",
        "contradicted",
        "The two sides of the equation differ by the previous CLS output, which the skip has to "
        "carry; it may be lost in the "
        "text version only.",
        says="Eq. (6), right-hand form: the skip is a_cls v_cls alone",
    ),
    disagreement(
        "lappe2025-skip-cka-giant",
        "inconclusive",
        "The captions single out the giant model; whether large belongs to it or to the smaller "
        "ones differs by section.",
        says="Sec. 4.1: so for the larger models in general; Fig. 5 has large with the smaller ones, Sec. 3 with giant",
    ),
)
