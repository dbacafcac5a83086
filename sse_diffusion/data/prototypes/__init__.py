"""Crystallographic prototypes of ionic compounds, and the crystals made from them by charge-balanced substitution."""
