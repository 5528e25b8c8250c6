"""`torch.ops.fastconv`: fakes, autograd, autocast, vmap and FLOP formulas, one file per family."""
