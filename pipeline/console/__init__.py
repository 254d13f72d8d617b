"""Offer all commands as one program, `strokelesion`, and as a BIDS App; each runs a command of a bundle file."""
