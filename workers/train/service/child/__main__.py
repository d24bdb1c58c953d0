"""A child of the train worker: loads everything, waits for one task, does it and ends.

``python -P -m workers.train.service.child PLAN``. Of several that train together each is one of these: see
`crew`.
"""

import logging
import os
import resource
import sys
import threading
from importlib import import_module

import msgspec

from workers.lifeline import die_with
from workers.train.service.child.place import take_place
from workers.train.service.child.talking import listen, take_pipes
from workers.train.service.frames import Plan

#: Loading takes seconds of a core that another child may be training on.
_NICE_WHILE_LOADING = 10


def main() -> int:
    """Do one task; 0 when its end was told, whatever that was."""
    plan = msgspec.json.decode(sys.argv[-1], type=Plan)
    die_with(plan.parent_pid)
    # A core file would hold somebody's data.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s child %(name)s: %(message)s")
    place = take_place(os.environ)
    orders, voice = take_pipes()
    _load_quietly()
    from workers.train.service.child.tasks import Worker  # noqa: PLC0415  loaded by now

    ear = listen(orders, place)
    worker = Worker(plan, place, voice.tell if place.is_first else voice.tell_failure, ear.stop)
    if place.is_first:
        voice.tell(worker.ready())
    worker.do(ear.next_task())
    return 0


def _load_quietly() -> None:
    """Import torch and all that trains on a thread that gives way to others.

    Priority belongs to threads; the main thread, which works later, keeps its own. Only root could give a
    whole process its priority back.
    """
    errors: list[BaseException] = []

    def load() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE_WHILE_LOADING)
        try:
            import_module("workers.train.service.child.tasks").warm_up()
        except BaseException as error:  # noqa: BLE001  raised below, on the main thread
            errors.append(error)

    loading = threading.Thread(target=load, name="loading")
    loading.start()
    loading.join()
    if errors:
        raise errors[0]


def _end(code: int) -> None:
    """Leave at once: torch's own tidying takes a while, and another thread still reads the orders."""
    logging.shutdown()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    try:
        _end(main())
    except BaseException:
        logging.getLogger(__name__).exception("the task has ended its process")
        _end(1)
