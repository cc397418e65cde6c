"""The built-in engine: diffusion models in this process's own ticks, over diffusers components."""
