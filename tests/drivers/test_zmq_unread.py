"""Answers that lie unread longer than a heartbeat: libzmq would abort the process when they are read."""

from __future__ import annotations

import threading

import zmq
from sim20_jobs import PIPELINE, assert_right, make_jobs
from zmq.utils.monitor import recv_monitor_message

from drivers.protocol import wire
from drivers.protocol.zmq_device import MESSAGES_AHEAD, ZmqDevice
from sim.firmware.registers import Firmware

JOBS = make_jobs(MESSAGES_AHEAD + 3)


def test_a_bench_that_does_not_look_for_longer_than_a_heartbeat_goes_on() -> None:
    firmware, stop, again = Firmware(PIPELINE), threading.Event(), threading.Event()
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    monitor = router.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
    url = f"zmq://127.0.0.1:{router.bind_to_random_port('tcp://127.0.0.1')}"

    def serve() -> None:
        connections = 0
        while not stop.is_set():
            if monitor.poll(0):
                recv_monitor_message(monitor)
                connections += 1
                if connections == 2:
                    again.set()
            if router.poll(20):
                peer, *parts = router.recv_multipart()
                router.send_multipart([peer, *wire.encode(firmware.handle(wire.decode(parts)))])

    thread = threading.Thread(target=serve)
    thread.start()
    device = ZmqDevice(url, deadline_s=3)
    try:
        captures = device.process_many(JOBS)
        got = [next(captures)]
        assert again.wait(20)  # the answers unread have silenced the heartbeats: ZeroMQ connected anew
        got += captures
        assert_right(JOBS, got)
        assert device.counts["reconnects"] == 1
    finally:
        device.close()
        stop.set()
        thread.join(10)
        context.destroy(linger=0)
