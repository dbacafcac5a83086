"""Molecular dynamics over the Potential contract: one loop for NVE, NVT and NPT, several replicas, trajectories in blocks."""
