"""A run in a notebook: the comparison table and the curve of each concept."""

from __future__ import annotations

from probekit.runner.run import Run


def run_html(run: Run) -> str:
    """Table and curve, by concept, as a piece of HTML that styles nothing but itself."""
    from markupsafe import Markup

    from probekit.report.figures import PALETTE, drawings, svg
    from probekit.report.page.overview import comparison
    from probekit.report.page.reader import Reader
    from probekit.report.page.templating import asset, environment

    reader = Reader(run)
    curves = {drawn.concept: Markup(svg(drawn)) for drawn in drawings(run) if drawn.section == "curves"}
    shown = [(concept, comparison(reader, concept), curves.get(concept)) for concept in reader.concepts]
    return (
        environment()
        .get_template("notebook.html")
        .render(shown=shown, palette=PALETTE, style=Markup(asset("notebook.css")))
    )
