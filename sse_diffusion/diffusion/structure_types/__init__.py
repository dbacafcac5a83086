"""Structure types: which arrangements crystals share, learnt from a table and proposed for new compositions."""
