"""Diffusion: the symmetry-constrained generative model, its training and its samplers."""
