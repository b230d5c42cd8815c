"""Reports for people: what a server answered of a video, as one HTML file with everything in it.

`tenclip predict --report` and `tenclip features --report` write them. A page needs no network, no script and no other
file: it opens from a disk, is light or dark as its reader likes, fits a phone, and every figure is a table, too.
"""
