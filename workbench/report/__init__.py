"""``workbench report``: one self-contained HTML file about a lab, or about two validations of it."""

from workbench.report.build import write_report
from workbench.report.comparison import write_comparison

__all__ = ["write_comparison", "write_report"]
