"""Opening anything: a database of ours, a vantage6 server's, the example data."""
