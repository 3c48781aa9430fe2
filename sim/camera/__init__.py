"""The camera before the ISP: light, sensor, meter."""
