"""The papers' findings, as experiments that anyone can repeat."""
