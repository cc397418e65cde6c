"""Provenance: what every file that leaves says about how it was made, and what files that come in say."""
