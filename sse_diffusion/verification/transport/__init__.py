"""From trajectories to diffusivity, conductivity and its extrapolation, each with an interval."""
