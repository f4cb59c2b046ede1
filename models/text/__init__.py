"""Documents in, their class risks and spans out; whole texts, apart from the notes of a stay."""
