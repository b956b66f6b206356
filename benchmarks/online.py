"""The online path beside its floor and beside stock Feast, in one run:

    python -m benchmarks.online [--keys 2000] [--write-keys 20000] [--stock-write-keys 20000]
        [--seconds 2] [--rows 1,10,100] [--connections 1,8,32] [--stores redis,sqlite]
        [--views 4] [--without-stock]

Writing: one view of 53 features from its published Parquet into the store, by our materialisation
and by Feast's own, with Feast's own stores. Reading: 50 features of one to four views over HTTP on
loopback, from `cardline serve` and from `feast serve`; the floor is a Python client that reads
the same values, as Feast keeps them, by one pipelined HMGET per view and key, over as many
connections.
Every server runs in a process of its own, the clients share one. Redis is started here, keeps
nothing, and is left out where `redis-server` is missing.
"""

import argparse
import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil

VIEWS = (
    "pull_bureau_features",
    "customer_application_features",
    "account_payment_features",
    "account_amount_features",
)
WRITTEN = VIEWS[0]
FEATURES = 50
PROJECT = "cardline"
DAY = datetime(2026, 1, 1)


@dataclass(frozen=True)
class Read:
    """One cell of the reading table: requests a second, and milliseconds at two quantiles."""

    who: str
    store: str
    rows: int
    connections: int
    per_second: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Written:
    """One line of the writing table: keys a second, megabytes kept, the process's peak.

    `per_processor_second` is what other work on the machine does not change.
    """

    who: str
    store: str
    keys: int
    per_second: float
    per_processor_second: float
    megabytes: float
    peak_megabytes: float


def main() -> None:
    """Measure and print both tables."""
    options = _options()
    root = Path(tempfile.mkdtemp(prefix="cardline-online-"))
    os.environ["CARDLINE_SERVE_REQUESTS_PER_SECOND"] = "0"
    try:
        with _redis() as port:
            if port:
                os.environ["CARDLINE_REDIS_URL"] = f"127.0.0.1:{port}"
            stores = [store for store in options.stores.split(",") if store != "redis" or port]
            _print_written(_write_all(options, stores, root, port))
            _print_read(_read_all(options, stores, root, port), options.views)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _options() -> Any:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keys", type=int, default=2_000, help="keys of each view that is read")
    parser.add_argument("--write-keys", type=int, default=20_000, help="keys that are written")
    parser.add_argument("--stock-write-keys", type=int, help="by Feast, where not as many")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each reading cell")
    parser.add_argument("--rows", default="1,10,100", help="entities a request")
    parser.add_argument("--connections", default="1,8,32", help="at the same time")
    parser.add_argument("--stores", default="redis,sqlite")
    parser.add_argument("--views", type=int, default=len(VIEWS), help="that a request reads")
    parser.add_argument(
        "--without-stock", action="store_true", help="leave Feast and the floor out"
    )
    return parser.parse_args()


# Writing


def _write_all(options: Any, stores: list[str], root: Path, port: int) -> Iterator[Written]:
    for store in stores:
        home = _fresh(root / f"write-{store}", port)
        _publish({WRITTEN: options.write_keys})
        yield _written("cardline", store, options.write_keys, home, port)
        if not options.without_stock:
            _empty(port)
            keys = options.stock_write_keys or options.write_keys
            if keys != options.write_keys:
                home = _fresh(root / f"write-{store}-stock", port)
                _publish({WRITTEN: keys})
            yield _written("stock Feast", store, keys, home, port)


def _written(who: str, store: str, keys: int, home: Path, port: int) -> Written:
    """Measured in a process of its own, so that each has a peak of its own."""
    before = _kept(store, home / "none", port)
    command = [
        sys.executable,
        "-m",
        "benchmarks.online_worker",
        who.split(maxsplit=1)[0],
        store,
        WRITTEN,
    ]
    environment = os.environ | {"CARDLINE_ONLINE_STORE": store}
    answer = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    measured = json.loads(answer.stdout.splitlines()[-1])
    path = home / ("stock/online.db" if who != "cardline" else "feast/online.db")
    megabytes = (_kept(store, path, port) - before) / 1e6
    return Written(
        who,
        store,
        keys,
        keys / measured["seconds"],
        keys / measured["processor_seconds"],
        megabytes,
        measured["peak_megabytes"],
    )


def _kept(store: str, path: Path, port: int) -> int:
    if store == "sqlite":
        return sum(each.stat().st_size for each in path.parent.glob(path.name + "*"))
    import redis

    info: Any = redis.Redis(host="127.0.0.1", port=port).info("memory")
    return int(info["used_memory_dataset"])


def _print_written(lines: Iterable[Written]) -> None:
    print(
        f"\n{'write':<14}{'store':<8}{'keys':>9}{'keys/s':>12}{'keys/cpu s':>12}"
        f"{'kept MB':>10}{'peak MB':>10}"
    )
    for line in lines:
        print(
            f"{line.who:<14}{line.store:<8}{line.keys:>9,}{line.per_second:>12,.0f}"
            f"{line.per_processor_second:>12,.0f}{line.megabytes:>10,.1f}{line.peak_megabytes:>10,.0f}",
            flush=True,
        )


# Reading


def _read_all(options: Any, stores: list[str], root: Path, port: int) -> Iterator[Read]:
    """Cell by cell ours, the floor and stock: what else the machine does meets all three."""
    cells = [
        (int(size), int(count))
        for size in options.rows.split(",")
        for count in options.connections.split(",")
    ]
    for store in stores:
        home = _fresh(root / f"read-{store}", port)
        _publish(dict.fromkeys(VIEWS, options.keys))
        os.environ["CARDLINE_ONLINE_STORE"] = store
        _materialize_here()
        names = _names(options.views)
        bodies = {size: _bodies(names, size, options.keys) for size, _ in cells}
        with ExitStack() as servers:
            ours = servers.enter_context(
                server([sys.executable, "-m", "pipelines", "serve", "--port", "{port}"])
            )
            stock = None if options.without_stock else servers.enter_context(_stock(store, home))
            for size, count in cells:
                yield over_http("cardline", store, size, count, ours, bodies[size], options.seconds)
                if stock is None:
                    continue
                if store == "redis":
                    yield _floor(names, size, count, options, port)
                yield over_http(
                    "stock Feast", store, size, count, stock, bodies[size], options.seconds
                )


def _stock(store: str, home: Path) -> AbstractContextManager[int]:
    """Feast's own server on its own store; in Redis its fields lie beside ours."""
    worker = [sys.executable, "-m", "benchmarks.online_worker", "stock", store, *VIEWS]
    subprocess.run(worker, check=True, capture_output=True, env=os.environ)
    feast = str(Path(sys.executable).with_name("feast"))
    command = [feast, "-c", str(home / "stock"), "serve", "-p", "{port}", "--no-access-log"]
    # Left alone it ends after a thousand requests, and its connections with it.
    return server([*command, "--max-requests", "0"])


def _names(views: int) -> list[tuple[str, str]]:
    """What is read, by view and feature: of each view in turn, as long as it has any."""
    from pipelines.features.registry import load_definitions

    features = [[(v, f) for f in load_definitions().views[v].features] for v in VIEWS[:views]]
    in_turn = [name for turn in zip_longest(*features) for name in turn if name is not None]
    return sorted(in_turn[:FEATURES], key=lambda name: VIEWS.index(name[0]))


def _bodies(names: list[tuple[str, str]], size: int, keys: int) -> list[bytes]:
    from pipelines.features.registry import load_definitions

    views = load_definitions().views
    columns = {views[view].key for view, _ in names}
    choose = np.random.default_rng(size)
    return [
        json.dumps(
            {
                "features": [f"{view}:{feature}" for view, feature in names],
                "entities": {c: [f"k{i}" for i in choose.integers(0, keys, size)] for c in columns},
            }
        ).encode()
        for _ in range(64)
    ]


def over_http(
    who: str,
    store: str,
    rows: int,
    connections: int,
    port: int,
    bodies: list[bytes],
    seconds: float,
    path: str = "/get-online-features",
) -> Read:
    """`bodies` posted to `path`, as many of them as fit into `seconds`."""
    requests = [
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n".encode()
        + b"Content-Type: application/json\r\nContent-Length: "
        + str(len(body)).encode()
        + b"\r\n\r\n"
        + body
        for body in bodies
    ]

    async def connect() -> Callable[[int], Awaitable[None]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def ask(number: int) -> None:
            writer.write(requests[number % len(requests)])
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(head.splitlines()[0].decode())
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))

        return ask

    return _measured(who, store, rows, connections, connect, seconds)


def _floor(
    names: list[tuple[str, str]], rows: int, connections: int, options: Any, port: int
) -> Read:
    """The same fields by a plain client, without asking for anything else."""
    from feast.infra.online_stores.helpers import _mmh3

    from pipelines.features.encoding import encode_keys
    from pipelines.features.registry import load_definitions

    views = load_definitions().views
    asked = dict.fromkeys(view for view, _ in names)
    fields = {
        view: [f"_ts:{view}", *(_mmh3(f"{v}:{f}") for v, f in names if v == view)] for view in asked
    }
    ids = [f"k{i}" for i in range(options.keys)]
    keys = {
        view: [k + PROJECT.encode() for k in encode_keys(views[view].key, ids)] for view in asked
    }
    wanted = np.random.default_rng(rows).integers(0, options.keys, (64, rows))

    async def connect() -> Callable[[int], Awaitable[None]]:
        from redis.asyncio import Redis

        client = Redis(host="127.0.0.1", port=port, single_connection_client=True)

        async def ask(number: int) -> None:
            async with client.pipeline(transaction=False) as pipe:
                for view in asked:
                    for key in wanted[number % len(wanted)]:
                        pipe.hmget(keys[view][key], fields[view])
                await pipe.execute()

        return ask

    return _measured("raw HMGET", "redis", rows, connections, connect, options.seconds)


def _measured(
    who: str,
    store: str,
    rows: int,
    connections: int,
    connect: Callable[[], Awaitable[Callable[[int], Awaitable[None]]]],
    seconds: float,
) -> Read:
    """As many requests as fit into `seconds`, after a quarter of that to warm up."""
    took: list[float] = []

    async def client(until: float, kept: float) -> None:
        ask = await connect()
        await ask(0)
        number = 1
        # One request at least is kept, however long it takes.
        while (started := time.perf_counter()) < until or number == 1:
            await ask(number)
            number += 1
            if started >= kept or number == 2:
                took.append(time.perf_counter() - started)

    async def run() -> None:
        now = time.perf_counter()
        kept = now + seconds / 4
        await asyncio.gather(*(client(kept + seconds, kept) for _ in range(connections)))

    asyncio.run(run())
    p50, p99 = np.quantile(took, [0.5, 0.99]) * 1000
    return Read(who, store, rows, connections, len(took) / seconds, float(p50), float(p99))


def _print_read(lines: Iterable[Read], views: int) -> None:
    print(f"\n{FEATURES} features of {views} views")
    heads = ("rows", "conns", "req/s", "p50 ms", "p99 ms")
    print(f"{'read':<14}{'store':<8}" + "".join(f"{head:>9}" for head in heads))
    for line in lines:
        print(
            f"{line.who:<14}{line.store:<8}{line.rows:>9}{line.connections:>9}"
            f"{line.per_second:>9,.0f}{line.p50_ms:>9.2f}{line.p99_ms:>9.2f}",
            flush=True,
        )


# What is measured on


def _publish(sizes: dict[str, int]) -> None:
    """Feature tables of random values, published; those of other views are empty."""
    from pipelines.features.publish import POLARS_TYPES, publish
    from pipelines.features.registry import load_definitions
    from pipelines.warehouse import connect

    choose = np.random.default_rng(1)
    makers: dict[str, Callable[[int], Any]] = {
        "INT64": lambda size: choose.integers(0, 1_000_000, size),
        "DOUBLE": choose.random,
        "BOOL": lambda size: choose.random(size) < 0.5,
        "STRING": lambda size: [f"v{i}" for i in choose.integers(0, 100, size)],
    }
    with connect() as con:
        for name, view in load_definitions().views.items():
            size = sizes.get(name, 0)
            columns = [pl.Series(view.key, [f"k{i}" for i in range(size)], pl.String)]
            columns += [
                pl.Series(feature, makers[kind](size), POLARS_TYPES[kind])
                for feature, kind in view.features.items()
            ]
            times = [pl.Series(n, [DAY] * size, pl.Datetime("us")) for n in _TIMES]
            con.register("given", pl.DataFrame([*columns, *times]))
            con.execute(
                f"create or replace table features.{name} as select * from given"  # noqa: S608
            )
            con.unregister("given")
        publish(con=con)


_TIMES = ("event_timestamp", "created_timestamp")


def _materialize_here() -> None:
    from pipelines.features.materialize import materialize
    from pipelines.settings import get_settings

    get_settings.cache_clear()
    materialize(end=DAY + timedelta(days=1), is_full=True)


def _fresh(home: Path, port: int) -> Path:
    """An empty home, now the current one, and an empty Redis."""
    from pipelines.settings import get_settings

    os.environ["CARDLINE_HOME"] = str(home)
    get_settings.cache_clear()
    _empty(port)
    return home


def _empty(port: int) -> None:
    if port:
        import redis

        redis.Redis(host="127.0.0.1", port=port).flushall()


@contextmanager
def _redis() -> Iterator[int]:
    """The port of a Redis for this run; 0 where there is none."""
    binary = shutil.which("redis-server")
    if binary is None:
        yield 0
        return
    port = _free_port()
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly"]
    process = subprocess.Popen([*command, "no"], stdout=subprocess.DEVNULL)
    try:
        _wait(port, process)
        yield port
    finally:
        _stop(process)


@contextmanager
def server(command: list[str]) -> Iterator[int]:
    """Start a server and wait for its port."""
    port = _free_port()
    filled = [part.replace("{port}", str(port)) for part in command]
    process = subprocess.Popen(filled, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(port, process)
        yield port
    finally:
        _stop(process)


def _wait(port: int, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError(f"{process.args} did not start")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    children = (
        psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    )
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for child in children:
        if child.is_running():
            child.kill()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


if __name__ == "__main__":
    print(datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), f"{os.cpu_count()} cores")
    main()
