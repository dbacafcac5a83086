"""Predictors: fast estimates with calibrated uncertainty that rank crystals before any force field."""
