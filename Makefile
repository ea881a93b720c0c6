# Short words for what is done often. All of it runs in the environment that `make test` makes.

python := .venv-test/bin/python

.PHONY: test lint docs schema example released bench clean

test: .venv-test  ## all tests
	$(python) -m pytest

lint: .venv-test  ## what ruff and mypy find
	$(python) -m pip install -q -e '.[lint]'
	$(python) -m ruff check .
	$(python) -m mypy

docs: .venv-test  ## the generated pages: commands, topics of help, the Python API, the schema of the JSON, the pictures
	$(python) docs/make_commands.py
	$(python) docs/make_api.py
	$(python) docs/make_server.py
	$(python) docs/make_schema.py
	$(python) docs/make_pictures.py
	-$(python) docs/make_page.py

schema: .venv-test  ## vserverlib/migrations/schema.sql, what the migrations make
	$(python) -c "from vserverlib.databases import schemas; (schemas.MIGRATIONS / schemas.SNAPSHOT).write_text(schemas.snapshot())"

example: .venv-test  ## vserver.db.example, of the example data and schema as they are now
	rm -f vserver.db.example
	.venv-test/bin/vserver -d vserver.db.example init --demo

released: .venv-test  ## tests/data/schema-N.sqlite, which the releases after this one are tried with
	$(python) tests/helpers/make_released.py

bench: .venv-test  ## the figures of docs/performance.md but those of million.py
	for file in benchmarks/[!m]*.py; do echo "$$file"; $(python) "$$file" || exit 1; done

clean:  ## environments, caches and builds
	rm -rf .venv .venv-test build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv-test: setup.cfg pyproject.toml
	python3 -m venv .venv-test
	.venv-test/bin/pip install -q -e '.[test]'
	touch .venv-test
