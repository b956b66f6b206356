"""The Dagster UI of a home: web server and daemon, ended together."""

import signal
import subprocess
import sys

from pipelines.errors import CardlineError
from pipelines.instance import prepare_home
from pipelines.network import is_loopback, require_free_port
from pipelines.settings import PROJECT_DIR

_DAGSTER = "from {module} import main; main()"


def serve_ui(host: str, port: int) -> None:
    """Run until interrupted. Raises `CardlineError` for an address beyond loopback."""
    if not is_loopback(host):
        raise CardlineError(
            f"the Dagster UI has no authentication, so it does not bind {host}: keep it on "
            "127.0.0.1 behind a proxy that authenticates"
        )
    require_free_port(host, port)
    prepare_home()
    workspace = ["-w", str(PROJECT_DIR / "workspace.yaml")]
    commands = [
        ["dagster_webserver.cli", "-h", host, "-p", str(port), *workspace],
        ["dagster._daemon.cli", "run", *workspace],
    ]
    print(f"Dagster UI on http://{host}:{port} (Ctrl-C ends it)", flush=True)
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _DAGSTER.format(module=module), *arguments], cwd=PROJECT_DIR
        )
        for module, *arguments in commands
    ]
    # Whoever ends a service sends SIGTERM: the children must not outlive it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if running[0].wait():
            raise CardlineError("the web server ended: its last lines say why")
    except KeyboardInterrupt:
        print("ended", flush=True)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
