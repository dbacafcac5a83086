"""What a crystal does beside its own decomposition: electrochemical window, products in words, reactions with electrodes."""
