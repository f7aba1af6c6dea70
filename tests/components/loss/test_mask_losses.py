import math

import pytest
import torch

from cphloc.components.loss.cross_entropy import CrossEntropy
from cphloc.components.loss.dice import Dice
from cphloc.components.loss.dice_ce import DiceCE
from cphloc.errors import InputError
from cphloc.ops.partial_labels import marginalized

SHAPES = {2: (10, 10), 3: (5, 4, 5)}


def tenth_foreground(dims):
    target = torch.zeros(1, *SHAPES[dims], dtype=torch.long)
    target.view(-1)[:10] = 1
    return target


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("squared", "dice"), [(False, 0.1666667), (True, 0.2857143)])
def test_dice_of_a_half_sure_prediction_with_a_tenth_foreground(dims, squared, dice):
    logits = torch.zeros(1, 2, *SHAPES[dims])
    assert Dice(squared=squared, smooth=0)(logits, tenth_foreground(dims)).item() == pytest.approx(1 - dice, abs=1e-6)


@pytest.mark.parametrize("classes", [2, 5])
def test_cross_entropy_of_uniform_logits_is_the_log_of_the_number_of_classes(classes):
    loss = CrossEntropy()(torch.zeros(2, classes, 4, 4), torch.ones(2, 4, 4, dtype=torch.long))
    assert loss.item() == pytest.approx(math.log(classes))


@pytest.mark.parametrize("criterion", [Dice(), CrossEntropy(), DiceCE(), Dice(batch=True, background=True)])
@pytest.mark.parametrize("dims", [2, 3])
def test_voxels_nobody_annotated_do_not_count(criterion, dims):
    logits = torch.randn(2, 2, *SHAPES[dims], requires_grad=True)
    target = tenth_foreground(dims).repeat(2, *(1,) * dims)
    target[..., 0] = 255
    criterion(logits, target).backward()
    assert logits.grad[..., 0].abs().max() == 0
    assert logits.grad[..., 1:].abs().max() > 0


@pytest.mark.parametrize("criterion", [Dice(), CrossEntropy(), DiceCE()])
def test_a_case_with_no_annotated_voxel_is_finite(criterion):
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = criterion(logits, torch.full((1, 4, 4), 255))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


def test_dice_is_zero_for_a_perfect_mask_and_for_an_absent_class():
    target = tenth_foreground(2)
    logits = torch.stack([target == 0, target == 1, torch.zeros_like(target)], 1).float() * 100 - 50
    assert Dice()(logits, target).item() == pytest.approx(0, abs=1e-4)


def test_dice_ce_is_the_sum_of_its_parts():
    logits, target = torch.randn(2, 3, 6, 6), torch.randint(0, 3, (2, 6, 6))
    whole = DiceCE(dice_weight=0.5, ce_weight=2)(logits, target)
    assert torch.allclose(whole, 0.5 * Dice()(logits, target) + 2 * CrossEntropy()(logits, target))


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("batch", [False, True])
def test_dice_agrees_with_a_loop_over_voxels(squared, batch):
    logits, target = torch.randn(2, 3, 5, 4), torch.randint(0, 3, (2, 5, 4))
    p = logits.softmax(1)
    power = 2 if squared else 1
    values = []
    for group in [[0, 1]] if batch else [[0], [1]]:
        for c in (1, 2):
            overlap = total = 0.0
            for n in group:
                for i in range(5):
                    for j in range(4):
                        g = float(target[n, i, j] == c)
                        overlap += p[n, c, i, j].item() * g
                        total += p[n, c, i, j].item() ** power + g
            values.append(1 - (2 * overlap + 1e-5) / (total + 1e-5))
    assert Dice(squared=squared, batch=batch)(logits, target).item() == pytest.approx(
        sum(values) / len(values), abs=1e-5
    )


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("weights", [None, [0.5, 3.0, 1.0]])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_weights_and_label_smoothing_are_those_of_torch(dims, weights, smoothing):
    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, *SHAPES[dims]), torch.randint(0, 3, (2, *SHAPES[dims]))
    target[..., 0] = 255
    given = None if weights is None else torch.tensor(weights)
    expected = torch.nn.CrossEntropyLoss(given, ignore_index=255, label_smoothing=smoothing)(logits, target)
    # torch's smoothing divides by the classes' weights as the loss does; both are weighted means over voxels
    assert CrossEntropy(weights, smoothing)(logits, target).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_top_k_is_the_mean_of_the_hardest_annotated_voxels(dims):
    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, *SHAPES[dims]), torch.randint(0, 3, (2, *SHAPES[dims]))
    target[..., 0] = 255
    each = torch.nn.functional.cross_entropy(logits, target, reduction="none", ignore_index=255)
    hardest = sorted(each[target != 255].tolist(), reverse=True)
    count = int(0.1 * len(hardest))
    assert CrossEntropy(top_k=0.1)(logits, target).item() == pytest.approx(sum(hardest[:count]) / count, rel=1e-5)
    assert CrossEntropy(top_k=1.0)(logits, target).item() == pytest.approx(CrossEntropy()(logits, target).item())


@pytest.mark.parametrize("dims", [2, 3])
def test_label_smoothing_gives_nothing_to_classes_nobody_looked_for(dims):
    """With class 2 unknown, the loss is that of the two others alone, by hand; its logit has no gradient."""
    torch.manual_seed(0)
    logits = torch.randn(1, 3, *SHAPES[dims], requires_grad=True)
    target = torch.randint(0, 2, (1, *SHAPES[dims]))
    known = torch.tensor([[True, False]])
    loss = CrossEntropy(label_smoothing=0.2)(marginalized(logits, known), target)
    background = torch.logsumexp(logits[:, [0, 2]], 1)
    two = torch.stack([background, logits[:, 1]], 1).log_softmax(1)
    own = two.gather(1, target[:, None])[:, 0]
    assert loss.item() == pytest.approx(-(0.8 * own + 0.1 * two.sum(1)).mean().item(), rel=1e-5)
    loss.backward()
    assert logits.grad.isfinite().all()


def test_weights_by_name_by_number_and_from_frequencies():
    by_name = CrossEntropy({"b": 3.0, "background": 0.5})
    by_name.class_weights.set_classes({1: "a", 2: "b"})
    assert by_name.class_weights.values.tolist() == [0.5, 1, 3]
    with pytest.raises(InputError, match="no class 'lesoin'; did you mean 'lesion'"):
        CrossEntropy({"lesoin": 2.0}).class_weights.set_classes({1: "lesion"})
    with pytest.raises(InputError, match="3 numbers; give one for the background and each class, or names: 2 in all"):
        CrossEntropy([1.0, 2.0, 3.0]).class_weights.set_classes({1: "lesion"})
    with pytest.raises(InputError, match="stated by name, and this loss is not part of a head"):
        CrossEntropy({"b": 3.0})(torch.zeros(1, 2, 3), torch.zeros(1, 3, dtype=torch.long))
    balanced = CrossEntropy("balanced")
    logits, target = torch.randn(1, 3, 8), torch.tensor([[0, 0, 0, 0, 0, 0, 1, 1]])
    assert balanced(logits, target) == CrossEntropy()(logits, target)
    balanced.class_weights.set_frequencies([0.75, 0.25, 0.0])
    assert balanced.class_weights.values.tolist() == pytest.approx([4 / 9, 4 / 3, 1])
