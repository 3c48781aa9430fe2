"""The blocks of the emulated ISP, one file each, and the pipeline that joins them (paper section 3, stages 2 to 8)."""
