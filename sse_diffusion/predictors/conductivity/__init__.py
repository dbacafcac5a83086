"""Ionic conductivity of solid electrolytes: tables of measurements, features, Arrhenius models, the calibrated predictor."""
