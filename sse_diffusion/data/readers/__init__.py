"""One file per input format; each yields :class:`RawCrystal` or a :class:`Rejection` per row."""
