"""One file per field: how it is destroyed in training and what is learnt to restore it."""
