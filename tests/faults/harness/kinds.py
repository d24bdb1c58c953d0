"""What can be done to a stack: one function a kind of fault, each of which puts everything right again."""

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from random import Random

import msgspec

from tests.faults.harness.load import Shape
from tests.faults.harness.members import Member
from tests.faults.harness.proxy import Mode
from tests.faults.harness.seen import Excuse
from tests.faults.harness.stack import Bus, FaultStack


class Disturbance(msgspec.Struct, kw_only=True):
    """One fault while it happens, and what is known of it afterwards. Times on the clients' clock."""

    stack: FaultStack
    rng: Random
    began_s: float = 0.0
    ended_s: float = 0.0
    #: What exactly was done, for the results.
    what: str = ""
    #: Jobs that were accepted and had not ended when it began.
    num_open: int = 0
    #: When a worker that held a job was killed or told to stop.
    worker_left_s: float | None = None
    excuses: list[Excuse] = msgspec.field(default_factory=list)

    async def lasting(self, low_s: float, high_s: float) -> None:
        """Let the fault last."""
        await asyncio.sleep(self.rng.uniform(low_s, high_s))


Fault = Callable[[Disturbance], Awaitable[None]]


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of fault, the stack it needs, and the load it is tried under."""

    fault: Fault
    bus: Bus = "single"
    #: Whether workers are held until all jobs are handed in, and the fault sets them free.
    after_all_jobs: bool = False
    #: Whether clients may see connections break before they have their answer.
    may_cut: bool = True
    shape: Shape = Shape()


#: So that another worker is free to take it over.
_ONE_LONG_JOB = Shape(num_users=1, min_jobs=1, max_jobs=1, sizes=(900,), cancelled=0.0)
#: More than fifty of them are open when the last is handed in.
_MANY_JOBS = Shape(min_jobs=30, max_jobs=30, sizes=(10, 30), num_watchers=1, pause_s=0.0, cancelled=0.0)


async def _server_killed(fault: Disturbance) -> None:
    server = fault.rng.choice(fault.stack.servers)
    await away(fault, server, server.kill)


async def _server_drained(fault: Disturbance) -> None:
    server = fault.rng.choice(fault.stack.servers)
    fault.what = server.name
    await server.drain()
    await fault.stack.restart(server)


async def _server_frozen(fault: Disturbance) -> None:
    server = fault.rng.choice(fault.stack.servers)
    await frozen(fault, server, 2.0, 7.0)


async def _worker_killed(fault: Disturbance) -> None:
    worker = await _find_busy_worker(fault)
    fault.what = worker.name
    fault.worker_left_s = time.monotonic()
    await worker.kill()
    await fault.stack.restart(worker)


async def _worker_drained(fault: Disturbance) -> None:
    worker = await _find_busy_worker(fault)
    fault.what = worker.name
    fault.worker_left_s = time.monotonic()
    await worker.drain()
    await fault.stack.restart(worker)


async def _worker_frozen(fault: Disturbance) -> None:
    await frozen(fault, await _find_busy_worker(fault), 2.0, 15.0)


async def _worker_cut_off(fault: Disturbance) -> None:
    await _cut_off(fault, fault.rng.choice(fault.stack.workers), "bus", 10.0)


async def _server_cut_off(fault: Disturbance) -> None:
    await _cut_off(fault, fault.rng.choice(fault.stack.servers), "bus", 10.0)


async def _database_cut_off(fault: Disturbance) -> None:
    await _cut_off(fault, fault.rng.choice(fault.stack.servers), "database", 18.0)


async def _bus_killed(fault: Disturbance) -> None:
    [bus] = fault.stack.nodes
    await away(fault, bus, bus.kill)


async def _bus_frozen(fault: Disturbance) -> None:
    [bus] = fault.stack.nodes
    await frozen(fault, bus, 2.0, 14.0)


async def _bus_emptied(fault: Disturbance) -> None:
    """Every stream and every message is gone. The workers are frozen until then: they would be too fast."""
    [bus] = fault.stack.nodes
    fault.what = bus.name
    await bus.kill()
    for worker in fault.stack.workers:
        worker.thaw()
    await asyncio.to_thread(shutil.rmtree, fault.stack.jetstream)
    await fault.stack.restart(bus)


async def _node_killed(fault: Disturbance) -> None:
    node = fault.rng.choice(fault.stack.nodes)
    await away(fault, node, node.kill)


async def _node_frozen(fault: Disturbance) -> None:
    await frozen(fault, fault.rng.choice(fault.stack.nodes), 2.0, 14.0)


async def _database_killed(fault: Disturbance) -> None:
    database = fault.stack.members["postgres"]
    await away(fault, database, database.kill)


async def _database_frozen(fault: Disturbance) -> None:
    await frozen(fault, fault.stack.members["postgres"], 2.0, 18.0)


async def _objects_failing(fault: Disturbance) -> None:
    """Every read and write fails (ENOTDIR): a file lies where the folder was."""
    file = fault.stack.folder.path / "objects.file"
    file.touch()
    await _replace_objects(fault, file)


async def _objects_gone(fault: Disturbance) -> None:
    """The folder is there, and it is another one: a mount that is gone leaves its mount point."""
    empty = fault.stack.folder.path / "objects.empty"
    empty.mkdir()
    await _replace_objects(fault, empty)


KINDS: Mapping[str, Kind] = {
    "server killed": Kind(fault=_server_killed),
    "worker killed": Kind(fault=_worker_killed, shape=_ONE_LONG_JOB),
    "bus killed": Kind(fault=_bus_killed),
    "database killed": Kind(fault=_database_killed),
    "object store failing": Kind(fault=_objects_failing),
    "server drained": Kind(fault=_server_drained, may_cut=False),
    "worker drained": Kind(fault=_worker_drained, may_cut=False, shape=_ONE_LONG_JOB),
    "bus node killed": Kind(fault=_node_killed, bus="cluster"),
    "server frozen": Kind(fault=_server_frozen),
    "worker frozen": Kind(fault=_worker_frozen),
    "bus frozen": Kind(fault=_bus_frozen),
    "database frozen": Kind(fault=_database_frozen),
    "bus node frozen": Kind(fault=_node_frozen, bus="cluster"),
    "server cut off from the bus": Kind(fault=_server_cut_off),
    "worker cut off from the bus": Kind(fault=_worker_cut_off),
    "server cut off from the database": Kind(fault=_database_cut_off),
    "bus emptied": Kind(fault=_bus_emptied, after_all_jobs=True, shape=_MANY_JOBS),
    "object store gone": Kind(fault=_objects_gone),
}


async def _replace_objects(fault: Disturbance, replacement: Path) -> None:
    folder = fault.stack.folder.objects
    aside = folder.with_name("objects.aside")
    fault.what = "object store"
    folder.rename(aside)
    try:
        _move(replacement, folder)
        await fault.lasting(1.0, 8.0)
    finally:
        _move(aside, folder)


def _move(source: Path, target: Path) -> None:
    """Rename; what lies there, made by whoever writes at this moment, is put away as often as it takes."""
    while True:
        try:
            source.rename(target)
        except OSError:
            target.rename(target.with_name(f"{target.name}.lost-{time.monotonic_ns()}"))
        else:
            return


async def _find_busy_worker(fault: Disturbance) -> Member:
    """One that holds a job if there is one soon, so that somebody has to take it over."""
    deadline = time.monotonic() + 5.0
    while time.monotonic() < deadline:
        worker = await fault.stack.busy_worker()
        if worker is not None:
            return worker
        await asyncio.sleep(0.02)
    return fault.rng.choice(fault.stack.workers)


async def away(fault: Disturbance, member: Member, leave: Callable[[], Awaitable[None]]) -> None:
    """Let a member leave, and start it again after a while."""
    fault.what = member.name
    began_s = time.monotonic()
    await leave()
    await fault.lasting(0.0, 6.0)
    await fault.stack.restart(member)
    _excuse(fault, member, began_s)


async def frozen(fault: Disturbance, member: Member, low_s: float, high_s: float) -> None:
    """Stop a member for some seconds without its knowing."""
    fault.what = member.name
    began_s = time.monotonic()
    member.freeze()
    try:
        await fault.lasting(low_s, high_s)
    finally:
        member.thaw()
    _excuse(fault, member, began_s)


async def _cut_off(fault: Disturbance, member: Member, other: str, high_s: float) -> None:
    mode: Mode = fault.rng.choice(("cut", "stalled"))
    fault.what = f"{member.name}, connections {mode}"
    proxy = fault.stack.proxies[member.name, other]
    proxy.become(mode)
    try:
        await fault.lasting(2.0, high_s)
    finally:
        proxy.become("open")


def _excuse(fault: Disturbance, member: Member, began_s: float) -> None:
    """Note that this very replica could answer nobody."""
    servers = fault.stack.servers
    if member in servers:
        fault.excuses.append(Excuse(replica=servers.index(member), began_s=began_s, ended_s=time.monotonic()))
