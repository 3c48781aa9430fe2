"""The emulated device behind a link: registers and latching, faults on order, its servers."""
