"""Properties of a crystal from its structure: graph networks of matgl's layers, trained here, with calibrated intervals."""
