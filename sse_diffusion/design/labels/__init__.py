"""Labels of proposed crystals from sources that had no part in proposing them: force field, hull, predictor, bond valence."""
