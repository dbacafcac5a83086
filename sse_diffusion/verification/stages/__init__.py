"""The stages of the funnel, from cheap to dear."""
