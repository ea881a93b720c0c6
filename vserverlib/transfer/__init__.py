"""What comes in and goes out: the databases and fixture files of vantage6, and exports of our own."""
