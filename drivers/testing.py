"""Tests that every driver must pass, for drivers of your own: subclass :class:`DeviceSuite` in a test file.

.. code-block:: python

    from drivers.testing import DeviceSuite

    class TestMyDevice(DeviceSuite):
        def open_device(self):
            return MyDevice("mine:board1", 30.0)

pytest runs the methods that begin with ``test_``; nothing of pytest is needed to import this module.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from drivers.device import Capture, Device, Failure
from drivers.errors import WorkbenchError
from drivers.frames import RawFrame
from drivers.parameters import Parameter, ParameterSet, ParameterSpace
from drivers.registers import HasRegisters

SIDE = 64


class DeviceSuite:
    """The tests; a subclass implements :meth:`open_device`. For devices that take stored RAWs.

    Attributes:
        repeatable: the same RAW and parameters give the same bytes; False for a device that filters over time.
    """

    repeatable = True

    def open_device(self) -> Device:
        """The device, open; each test opens it anew and closes it. Two of them are never open at a time."""
        raise NotImplementedError(f"{type(self).__name__} does not say how its device is opened")

    def raws(self) -> list[RawFrame]:
        """Two RAWs of the device's kind, of different sizes; here generated ones, RGGB, 10 bits."""
        return [_raw(SIDE, SIDE), _raw(SIDE, 2 * SIDE)]

    def sets(self, space: ParameterSpace) -> list[ParameterSet]:
        """Three sets that the device takes and whose outputs differ; here the defaults and two within the ranges."""
        return [space.defaults, *(space.from_unit(np.full(len(space), unit)) for unit in (0.3, 0.6))]

    def refused_raw(self) -> RawFrame | None:
        """A RAW that the device refuses while it goes on with others; None: it takes every RAW."""
        return None

    # ---- who it is -------------------------------------------------------------------------------------------------

    def test_info_stays_the_same(self) -> None:
        """Asked again, and after a frame, the device is the same in the same boot."""
        with self._opened() as device:
            first = device.info()
            assert first.model, "the model is empty"
            assert first.firmware, "the firmware is empty"
            assert first.max_in_flight >= 1, f"max_in_flight is {first.max_in_flight}"
            assert not first.live, "this suite is for devices that take stored RAWs"
            self._capture(device)
            again = device.info()
            assert again == first, f"{again} after a frame, {first} before"

    def test_messages_can_name_it(self) -> None:
        """It has a URL and a deadline, and counts what goes wrong by unit."""
        with self._opened() as device:
            assert device.url, "the URL is empty"
            assert device.deadline_s > 0, f"the deadline is {device.deadline_s} s"
            self._capture(device)
            assert isinstance(device.counts, Counter)
            units = device.counts_by_unit()
            assert units, "counts_by_unit names no unit"
            assert all(units), "a unit has no name"

    # ---- one frame -------------------------------------------------------------------------------------------------

    def test_codes_in_force_are_those_asked_for(self) -> None:
        """Every capture is of its RAW, its set and this boot."""
        with self._opened() as device:
            info = device.info()
            for parameters in self.sets(info.space):
                for raw in self.raws():
                    capture = device.process(raw, parameters)
                    _check(capture, raw, parameters)
                    assert capture.boot_id in info.boot_id, f"boot {capture.boot_id}, INFO says {info.boot_id}"
                    assert capture.device_s >= 0, f"the device took {capture.device_s} s"
                    assert capture.total_s >= 0, f"the frame took {capture.total_s} s"

    def test_the_output_is_a_whole_picture_of_the_raws_size(self) -> None:
        """Its pixels lie as the RAW's, none left out."""
        with self._opened() as device:
            for raw in self.raws():
                device.process(raw, device.info().space.defaults).rgb.check(raw.width, raw.height)

    def test_raw_and_parameters_both_count(self) -> None:
        """Other parameters give another output, and so does another RAW."""
        with self._opened() as device:
            sets = self.sets(device.info().space)
            raw, other = self.raws()
            outputs = [device.process(raw, parameters).rgb.hash for parameters in sets]
            assert len(set(outputs)) == len(outputs), "different parameters gave the same output"
            assert device.process(other, sets[0]).rgb.hash != outputs[0], "different RAWs gave the same output"

    def test_the_same_frame_again_gives_the_same_output(self) -> None:
        """Whatever was processed between; also when the device was opened anew."""
        if not self.repeatable:
            return
        raw, other = self.raws()
        with self._opened() as device:
            parameters, *others = self.sets(device.info().space)
            first = device.process(raw, parameters)
            device.process(other, others[0])
            assert device.process(raw, parameters).rgb.hash == first.rgb.hash, "a frame between changed the output"
        with self._opened() as device:
            assert device.process(raw, parameters).rgb.hash == first.rgb.hash, "opened anew it gives another output"

    def test_frames_are_counted(self) -> None:
        """The frame counter goes up within a boot."""
        with self._opened() as device:
            first, second = self._capture(device), self._capture(device)
            assert first.boot_id != second.boot_id or second.frame > first.frame, (
                f"frame {first.frame} was followed by frame {second.frame}"
            )

    # ---- what it must refuse ---------------------------------------------------------------------------------------

    def test_a_code_out_of_range_is_refused_and_changes_nothing(self) -> None:
        """Neither the frame is made, nor does the next one feel it."""
        with self._opened() as device:
            space = device.info().space
            before = self._capture(device)
            for p in (space.parameters[0], space.parameters[-1]):
                codes = {**space.defaults.by_name, p.name: _beyond(p)}
                _refused(device, self.raws()[0], ParameterSet(space, tuple(codes.values())))
            after = self._capture(device)
            if self.repeatable:
                assert after.rgb.hash == before.rgb.hash, "a refused set changed the next output"

    def test_a_set_of_another_space_is_refused(self) -> None:
        """Its codes mean something else."""
        with self._opened() as device:
            data = device.info().space.to_dict()
            data["parameters"].append({"name": "of_no_device", "block": "test", "kind": "bool", "default": False})
            data["name"] = f"not {data['name']}"
            _refused(device, self.raws()[0], ParameterSpace.from_dict(data).defaults)
            self._capture(device)

    def test_a_device_without_a_camera_does_not_photograph(self) -> None:
        """:meth:`~drivers.device.Device.capture` is for live devices."""
        with self._opened() as device:
            try:
                device.capture(device.info().space.defaults)
            except WorkbenchError:
                return
            raise AssertionError("it gave a photograph although it is not live")

    # ---- many frames -----------------------------------------------------------------------------------------------

    def test_captures_come_in_the_order_of_the_jobs(self) -> None:
        """Each is what the same job gives alone."""
        with self._opened() as device:
            jobs = list(itertools.product(self.raws(), self.sets(device.info().space)))
            results = list(device.process_many(jobs))
            assert len(results) == len(jobs), f"{len(results)} results of {len(jobs)} jobs"
            for (raw, parameters), result in zip(jobs, results, strict=True):
                assert isinstance(result, Capture), f"a job failed: {result}"
                _check(result, raw, parameters)
            if self.repeatable:
                raw, parameters = jobs[-1]
                last = results[-1]
                assert isinstance(last, Capture)
                assert device.process(raw, parameters).rgb.hash == last.rgb.hash, "alone the job gives another output"

    def test_jobs_are_drawn_as_they_are_taken(self) -> None:
        """A stream of jobs need not end, may be left early, and the device works on."""
        with self._opened() as device:
            raw, space = self.raws()[0], device.info().space
            drawn = 0

            def source() -> Iterator[tuple[RawFrame, ParameterSet]]:
                nonlocal drawn
                for parameters in itertools.cycle(self.sets(space)):
                    drawn += 1
                    assert drawn <= 10_000, "jobs are drawn without an end before the first result is given"
                    yield raw, parameters

            stream = device.process_many(source())
            assert isinstance(next(iter(stream)), Capture)
            close = getattr(stream, "close", None)  # an iterator need not be a generator
            if close is not None:
                close()
            self._capture(device)

    def test_no_jobs_give_no_captures(self) -> None:
        """Nothing is asked of the device."""
        with self._opened() as device:
            assert list(device.process_many([])) == []

    def test_a_frame_that_fails_fails_in_its_place(self) -> None:
        """The frames around it are made."""
        bad = self.refused_raw()
        if bad is None:
            return
        with self._opened() as device:
            parameters = device.info().space.defaults
            raw = self.raws()[0]
            results = list(device.process_many([(raw, parameters), (bad, parameters), (raw, parameters)]))
            kinds = [type(result) for result in results]
            assert kinds == [Capture, Failure, Capture], f"{kinds}, not Capture, Failure, Capture"
            failure = results[1]
            assert isinstance(failure, Failure)
            assert failure.raw_hash == bad.hash, "the failure names another RAW"
            assert failure.parameters.hash == parameters.hash, "the failure names another set"
            assert failure.code, "the failure has no code"
            assert failure.reason, "the failure has no reason"
            assert "\n" not in failure.reason, "the failure's reason is more than one line"
            _refused(device, bad, parameters)

    # ---- registers, where it has some ------------------------------------------------------------------------------

    def test_registers_are_written_for_the_next_frame(self) -> None:
        """A write is read back from the shadow bank; the active one holds what the last frame was made with."""
        with self._opened() as device:
            if not isinstance(device, HasRegisters):
                return
            _, asked, other = self.sets(device.info().space)
            device.process(self.raws()[0], asked)
            assert device.read_registers() == asked.by_name, "the active bank is not what the frame was asked with"
            assert device.write_registers(other.by_name) == other.by_name, "other codes were read back"
            assert device.read_registers("shadow") == other.by_name, "the shadow bank is not what was written"
            assert device.read_registers("active") == asked.by_name, "a write changed the active bank"

    def test_a_register_out_of_range_is_refused_and_changes_nothing(self) -> None:
        """All or none: the right codes beside it are not written either."""
        with self._opened() as device:
            if not isinstance(device, HasRegisters):
                return
            space = device.info().space
            before = device.read_registers("shadow"), device.read_registers("active")
            wrong = space.parameters[-1]
            for codes in (
                {**self.sets(space)[1].by_name, wrong.name: _beyond(wrong)},
                {"no such parameter": 0},
            ):
                try:
                    device.write_registers(codes)
                except WorkbenchError:
                    pass
                else:
                    raise AssertionError(f"the device took {codes}")
            assert (device.read_registers("shadow"), device.read_registers("active")) == before

    # ---- the end ---------------------------------------------------------------------------------------------------

    def test_closing_twice_is_allowed(self) -> None:
        """Also before anything was asked, and behind a ``with``."""
        device = self.open_device()
        device.close()
        device.close()
        device = self.open_device()
        with device as entered:
            assert entered is device, "`with` gives another object"
            self._capture(device)
        device.close()

    # ---- small things ----------------------------------------------------------------------------------------------

    @contextmanager
    def _opened(self) -> Iterator[Device]:
        device = self.open_device()
        try:
            yield device
        finally:
            device.close()

    def _capture(self, device: Device) -> Capture:
        raw, parameters = self.raws()[0], device.info().space.defaults
        capture = device.process(raw, parameters)
        _check(capture, raw, parameters)
        return capture


def _raw(height: int, width: int) -> RawFrame:
    """A scene for devices that find nothing odd: shades, edges and noise; ``[height, width]``, RGGB, black at 64."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(width).integers(0, 60, (height, width))
    mosaic = (100 + 500 * x / width + 200 * ((x // 8 + y // 8) % 2) + noise).astype(np.uint16)
    return RawFrame(
        mosaic, "RGGB", (64.0,) * 4, 1023, iso=100.0, exposure_s=0.01, as_shot_wb=(2.0, 1.0, 1.5), source="suite RAW"
    )


def _beyond(parameter: Parameter) -> int:
    """A code that the parameter does not have."""
    return parameter.high_code + 1


def _check(capture: Capture, raw: RawFrame, parameters: ParameterSet) -> None:
    assert capture.raw_hash == raw.hash, f"a capture of RAW {capture.raw_hash[:12]}, asked for was {raw.hash[:12]}"
    assert capture.parameters.hash == parameters.hash, "a capture with another set than asked for"
    assert capture.parameters_in_force == parameters.by_name, "other codes were in force than asked for"


def _refused(device: Device, raw: RawFrame, parameters: ParameterSet) -> None:
    reason = None
    try:
        device.process(raw, parameters)
    except WorkbenchError as error:
        reason = str(error)
    assert reason is not None, f"the device took {parameters.codes} of {parameters.space.name}"
    assert reason, "the refusal does not say why"
    assert "\n" not in reason, f"the refusal is more than one line: {reason}"
