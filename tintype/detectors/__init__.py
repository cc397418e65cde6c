"""Detectors that run on this machine: they score pictures and texts, and decide nothing.

Known to the rest through the entry-point group `tintype.detectors` only.
"""
