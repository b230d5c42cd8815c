"""`run_demo(config)`: every stage in order.

OUT/videos/        generated videos and their manifest (with --data: the manifest alone)
OUT/training/      the training run: checkpoints, history
OUT/models/        the bundle; `tenclip serve OUT/models` serves it
OUT/server.log     what the server said
OUT/report.html    the page
OUT/summary.json   its figures
OUT/state.json     what is done, for the next run

Reading order: `learn` (from videos to a bundle), `ask` (the bundle through a running server), `facts` (both as a
`Report`), `page` (the report as HTML).
"""

from __future__ import annotations

import json

from tenclip_client import Client
from tenclip_client.cli.signals import terminated_like_interrupted
from tenclip_data.atomic import write_text
from tenclip_demo.ask import Asker, Findings
from tenclip_demo.config import DemoConfig
from tenclip_demo.console import StageConsole
from tenclip_demo.facts import make_report
from tenclip_demo.learn import Learned, learn
from tenclip_demo.page import render_page
from tenclip_demo.report import Report
from tenclip_demo.server import ServerProcess
from tenclip_demo.stages import Stages


def run_demo(config: DemoConfig, console: StageConsole) -> Report:
    """Everything, from videos to the page. What an earlier run with the same settings finished is taken from it.

    Raises TenclipError, and KeyboardInterrupt at SIGTERM, too. The server is stopped in any case.
    """
    with terminated_like_interrupted():  # a server left running would be nobody's
        stages = Stages(config.out, console)
        learned = learn(config, stages)
        findings = _ask_a_server(config, learned, stages)
        report = make_report(config, learned, findings, stages.times)
        write_text(config.out / "report.html", render_page(report))
        write_text(config.out / "summary.json", json.dumps(report.summary(), indent=2, allow_nan=False) + "\n")
        return report


def _ask_a_server(config: DemoConfig, learned: Learned, stages: Stages) -> Findings:
    """Serve the bundle in a process of its own and ask it everything; it is stopped afterwards, whatever happens."""
    videos = (*learned.paths, *config.videos)
    roots = sorted({p.resolve().parent for p in videos if p.exists()})
    server = ServerProcess(config.out / "models", config.out / "server.log", allow_roots=roots)
    try:
        stages.now("serve", "starting the server", server.__enter__)
        with Client(server.address, timeout=120) as client:
            return Asker(client, learned, stages, extra_videos=config.videos).ask()
    finally:
        server.stop()
