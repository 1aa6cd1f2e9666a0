# The two commands: `make up` and `make test`. `make help` lists the rest.
.DEFAULT_GOAL := help
python := .venv/bin/python

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.venv: ; @./sandbox/bootstrap
.PHONY: .venv

.PHONY: up
up: .venv ## build and start the sandbox, release the sample shop, print its URLs
	@$(python) -m sandbox up

.PHONY: test
test: .venv ## lint, types, provider tests, then every layer of pytest on the sandbox
	@$(python) -m tests

.PHONY: check
check: .venv ## the quick part: lint, types, unit tests (no cluster)
	@$(python) -m tests --quick

.PHONY: status
status: .venv ## show which programs of the sandbox run
	@$(python) -m sandbox status

.PHONY: down
down: .venv ## stop the sandbox and remove its data; the build cache stays
	@$(python) -m sandbox down

.PHONY: bench
bench: .venv ## time releases and rollbacks against kubectl and Helm
	@$(python) -m benchmarks

.PHONY: images
images: ## build, test and push the images that pods run: make images REGISTRY=registry.example.com/shop [IMAGES="tasks …"]
	@python3 -m images --registry "$(REGISTRY)" $(ARGS) $(IMAGES)

.PHONY: lock
lock: .venv ## update requirements.lock and the requirements of `pulumi install` and the images from pyproject.toml
	.venv/bin/uv pip compile pyproject.toml --universal --all-extras --generate-hashes --no-header --no-annotate \
	    --no-emit-index-url --python-version 3.11 --upgrade -o requirements.lock -q
	.venv/bin/uv pip compile pyproject.toml --constraint requirements.lock --universal --generate-hashes --no-header \
	    --no-annotate --no-emit-index-url --python-version 3.11 -o requirements.txt -q
	@# Not universal: pip fetches on one Python what is installed on another of the same version, and markers distinguish them.
	.venv/bin/uv pip compile images/tasks/requirements.in --constraint requirements.lock --python-platform linux \
	    --generate-hashes --no-header --no-annotate --no-emit-index-url --python-version 3.11 \
	    -o images/tasks/requirements.txt -q
	.venv/bin/uv pip compile pyproject.toml --constraint requirements.lock --python-platform linux \
	    --generate-hashes --no-header --no-annotate --no-emit-index-url --python-version 3.11 \
	    -o images/controller/requirements.txt -q
	.venv/bin/uv pip compile sandbox/guestbook/requirements.in --constraint requirements.lock --python-platform linux \
	    --generate-hashes --no-header --no-annotate --no-emit-index-url --python-version 3.11 \
	    -o sandbox/guestbook/requirements.txt -q
