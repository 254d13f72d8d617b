"""What `speed.py` measures side by side: the project and its peers at input, training and inference.

Every file is a program of its own, run in a fresh process, perhaps by another Python; its last line is its result, as
`measured` writes it. Only what its own candidate needs is imported.
"""
