"""How to talk to an image signal processor: parameter space, frames, the Device interface and its transports."""
