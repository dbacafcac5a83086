"""Partial occupancies: ordered supercells that represent them, and averages over those."""
