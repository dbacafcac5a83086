"""Elastic tensors by force field, moduli and stability derived from them, and criteria for dendrites."""
