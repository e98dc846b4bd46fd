"""Which stage of a backbone a parameter belongs to: found by trying, so that it holds for any of timm's networks."""

from torch import nn, ones
from torch.autograd import grad

from segmentation.models.network import Network


def stages(network: Network) -> dict[str, int]:
    """The stage of every trainable parameter of the backbone, by its name in it: 0 for those that the first of its maps
    depends on, 1 for those that the second needs beside them, and so on.
    """
    backbone: nn.Module = network.backbone
    training = backbone.training
    backbone.eval()  # no running statistics are touched, and no random number is drawn
    try:
        return find_stages(backbone, network.minimum, network.channels)
    finally:
        backbone.train(training)


def find_stages(backbone: nn.Module, side: int, channels: int) -> dict[str, int]:
    """As `stages`, of a backbone in evaluation mode that takes images of this side and so many channels."""
    weight = next(backbone.parameters())
    left = {name: parameter for name, parameter in backbone.named_parameters() if parameter.requires_grad}
    found: dict[str, int] = {}
    stage = 0
    for features in backbone(ones(1, channels, side, side, device=weight.device)):
        if not features.requires_grad:  # the image itself, which some networks hand on as their first map
            continue
        gradients = grad(features.sum(), list(left.values()), retain_graph=True, allow_unused=True)
        reached = [name for name, gradient in zip(left, gradients, strict=True) if gradient is not None]
        found |= dict.fromkeys(reached, stage)
        left = {name: parameter for name, parameter in left.items() if name not in found}
        stage += bool(reached)
        if not left:
            break
    return found
