"""The papers' findings, as experiments that anyone can repeat on generated videos.

Reading order: statistics (what counts as shown), finding, catalog and run (`tenclip findings`), and salience, a package
with a command of its own (`make salience`: prediction from the clips that matter).
"""
