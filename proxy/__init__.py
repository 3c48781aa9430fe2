"""The differentiable proxy: a network that imitates a device, its training, and its fidelity to the device."""
