"""Checkpoints of surrogates as a training would write them, without a training."""

import torch

from lightning_al.surrogates import FunctionDataModule, FunctionPrior, SurrogateModule


def checkpoint_of(network, path, steps=1, seed=0):
    """Write one of a network with weights away from their start; returns the path."""
    it = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=it))
    module, data = SurrogateModule(network), FunctionDataModule(FunctionPrior())
    state = {
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
        "datamodule_hyper_parameters": dict(data.hparams),
        "global_step": steps,
    }
    torch.save(state, path)
    return path
