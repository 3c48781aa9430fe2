"""``workbench report``: one self-contained HTML file about a lab."""

from workbench.report.build import write_report

__all__ = ["write_report"]
