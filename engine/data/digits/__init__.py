"""The embedded stream: real handwritten digits as six releases of instructions, and the small models made for it."""
