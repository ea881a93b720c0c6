"""The pages for a browser: the overview of a database, and one entity, as HTML.

    rendering   the templates, and what they may call; jinja2 is imported only here
    drawing     the geometry of bars and time lines
    overview_page, entity_page   what a page shows, from the figures of queries/
    documents   whole documents: served, or as one file that needs nothing else

The figures and words are those of the terminal: queries/ reads them, and terminal/views.py has the words and signs. A
page has no style attributes and no script in it, so that a strict Content-Security-Policy can forbid both. The server
serves the files in static/ as they are.
"""
