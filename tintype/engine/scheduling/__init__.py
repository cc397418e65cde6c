"""What the engine does next: which pictures share a step, which models are loaded for it, what makes room.

Counts, bytes and predicted seconds only: no tensors and no clock. The runner executes and reports back.
"""
