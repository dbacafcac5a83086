"""Thermo: what is asked for (conditions, chemistry), the convex hull and Gibbs energies."""
