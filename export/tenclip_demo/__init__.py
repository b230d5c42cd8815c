"""`tenclip demo`: from nothing to a served model and a page that shows it, stage by stage.

Reading order: config (what a demo is), videos (where they come from), stages (what is done), server (its process),
served (what is asked of it), report (what was found), svg and page (how it looks), run (all of it in order).
"""
