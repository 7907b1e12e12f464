"""The loss by which tokens that the head does not read are at chance, against token by token."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from vit_registers.params import reading
from vit_registers.training.one_reader import at_chance

PARAMS = [Path(__file__).parents[2] / "params.yaml"]


def test_at_chance_is_least_where_all_classes_are_alike():
    assert float(at_chance(torch.zeros(5))) == pytest.approx(math.log(5))
    assert float(at_chance(torch.tensor([1.0, 0.0, 0.0]))) > math.log(3)
    logits = torch.randn(4, 6, 3)
    slow = [[F.cross_entropy(token, torch.full((3,), 1 / 3)) for token in image] for image in logits]
    torch.testing.assert_close(at_chance(logits), torch.tensor(slow))


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_loss_is_that_of_labels_and_of_every_token_that_is_not_read(weight):
    recipe = reading.load(PARAMS).recipes["late-register"]
    small = {"image_size": 32, "width": 24, "depth": 3, "heads": 2}
    recipe = recipe.model_copy(
        update={"architecture": recipe.architecture.model_copy(update=small), "chance_weight": weight}
    )
    torch.manual_seed(0)
    objective = recipe.objective(1, 4, 10).train()
    module, images, labels = objective.module, torch.randn(3, 3, 32, 32), torch.tensor([0, 3, 1])
    for seed in range(6):
        torch.manual_seed(seed)
        found = objective.loss(images, labels, 0)
        torch.manual_seed(seed)
        features = module.forward_features(images)
        register = int(module.shares[0].argmax())
        unread = []
        for image in features:
            for place, token in enumerate(image):
                if place != register:
                    logits = module.head(F.layer_norm(token, (24,), eps=1e-6))
                    unread.append(F.cross_entropy(logits, torch.full((4,), 0.25)))
        logits = module.head(F.layer_norm(features[:, register], (24,), eps=1e-6))
        slow = F.cross_entropy(logits, labels, label_smoothing=0.05) + weight * torch.stack(unread).mean()
        torch.testing.assert_close(found, slow, rtol=1e-4, atol=1e-5)


def test_the_direction_of_the_register_does_not_swamp_the_gradients_that_are_clipped_with_it():
    """Drawn as timm draws registers, with deviation 1e-6, it would take nearly all of the clipped gradient."""
    recipe = reading.load(PARAMS).recipes["late-register"]
    torch.manual_seed(0)
    objective = recipe.objective(1, 10, 10).train()
    objective.loss(torch.randn(4, 3, 64, 64), torch.tensor([0, 1, 2, 3]), 0).backward()
    squares = {
        name: float(p.grad.square().sum()) for name, p in objective.module.named_parameters() if p.grad is not None
    }
    assert squares["reg_token"] < 0.5 * sum(squares.values())
