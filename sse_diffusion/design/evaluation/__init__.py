"""``sse evaluate``: the field's numbers for a checkpoint, or for anybody's crystals."""
