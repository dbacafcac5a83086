"""Verification: screens, force-field relaxation, energy above the hull and molecular dynamics, as a resumable funnel."""
