"""Core: what every room shares: errors, units, results, symmetry, provenance, configuration, checkpoints."""
