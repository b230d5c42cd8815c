"""Small re-implementations of the authors' networks, in the authors' own modules and names.

They share no code with tenclip: what a loader must reproduce is written here a second time, from the papers and the
public code's structure, and compared number by number. Each takes a width (64 in the public weights) and the blocks of
each layer, so that tests stay fast.
"""
