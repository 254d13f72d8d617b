"""What `speed.py` measures side by side: the project and its peers, each file one of them at one kind of work.

Every file is a program of its own, run in a fresh process, perhaps by another Python; its last line is its result, as
`measured` writes it. Files of peers import nothing of the project.
"""
