"""Data: validated crystal tables, structure prototypes and symmetry orbits to train on."""
