"""A page in the browser: a video goes in, its prediction over time comes out."""
