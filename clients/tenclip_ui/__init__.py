"""A page in the browser: a video goes in, its prediction over time comes out.

`tenclip ui` runs it beside a server of any machine, `tenclip serve --ui` within the server. It speaks to the server
through `tenclip_client` only. Reading order: commands, app, guard, predict, upload; then static/main.js.
"""
