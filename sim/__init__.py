"""The emulated hardware: scenes, sensor, ISP blocks, firmware and the server that puts it on the wire."""
