"""Descriptors of crystals: one file per family of columns; :func:`table.describe` computes them."""
