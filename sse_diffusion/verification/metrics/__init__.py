"""What the field measures on generated crystals, each number with its interval: rates, matches, coverage, distributions, hull."""
