"""One HTML file that says what runs found: no request, readable without scripts, every number from the runs' tables."""

from probekit.report.page.build import page_html, write_report

__all__ = ["page_html", "write_report"]
