"""Force-field engines; each file offers ``load(config mapping) -> Potential``."""
