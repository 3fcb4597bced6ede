# Everything here is meant to be run from a checkout. "make help" lists the targets.

SHELL      := /bin/bash
PREFIX     ?= /usr/local
VERSION    ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BINARIES   := $(patsubst cmd/%/main.go,%,$(wildcard cmd/*/main.go))
GO         := go
COMMIT     ?= $(shell git rev-parse HEAD 2>/dev/null)
LDFLAGS    := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
SOURCES    := $(shell find cmd internal oci runtime -name '*.go' -o -name '*.[ch]' -o -name '*.proto' -o -name '*.json' 2>/dev/null)
# Without the OpenPGP in C that the library of images would link, NRI's plugins in WebAssembly, traces of gRPC in memory,
# and the Markdown of the flags' library.
TAGS       := nri_no_wasm,containers_image_openpgp,grpcnotrace,urfave_cli_no_docs
TESTTAGS   := seccomp,containers_image_openpgp
TOOLBOX    := runtime/toolbox/data/toolbox.tar
# Packages whose tests are cheap enough under the race detector and worth it.
RACE       := ./internal/... ./runtime/content/... ./runtime/events/... ./runtime/logs/... ./runtime/store/... ./oci/registry/...
SUPERVISOR := minid-supervisor

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: go
go:
	@scripts/need-go

.PHONY: deps
deps: ## install what a build needs and is missing (apt, as root)
	@scripts/deps build

.PHONY: deps-test
deps-test: ## install what the tests need and is missing (apt, as root)
	@scripts/deps build test

.PHONY: build
build: $(addprefix bin/,$(BINARIES)) ## build all binaries into bin/

# What the linker writes, it writes by a mapping, and it lies in the page cache in single pages. A copy lies there in
# larger ones, and starts a quarter quicker.
bin/%: $(SOURCES) go.mod go.sum $(TOOLBOX) | go
	CGO_ENABLED=0 $(GO) build -trimpath -tags $(TAGS) -ldflags '$(LDFLAGS)' -o $@.linked ./cmd/$*
	@install -m 0755 $@.linked $@ && rm $@.linked

# libcontainer's nsenter is C, and seccomp needs libseccomp. Each start executes it once more, which is quicker without
# a dynamic linker.
bin/$(SUPERVISOR): $(SOURCES) go.mod go.sum | go
	CGO_ENABLED=1 $(GO) build -trimpath -tags seccomp,netgo,osusergo -ldflags '$(LDFLAGS) -extldflags -static' -o $@ ./cmd/$(SUPERVISOR)

.PHONY: toolbox
toolbox: $(TOOLBOX) ## build the image that minid carries

$(TOOLBOX): $(shell find toolbox -name '*.go') toolbox/go.mod toolbox/go.sum | go
	cd toolbox && $(GO) run ./build -o ../$@

.PHONY: run
run: deps ## build, start minid, run a container of the embedded image (as root)
	@$(MAKE) --no-print-directory build
	@scripts/run

.PHONY: stop
stop: ## undo "make run"
	@scripts/stop

.PHONY: check
check: go ## format, vet, lint, unit tests
	@files=$$(git ls-files -co --exclude-standard '*.go' | xargs -r ls -d 2>/dev/null | xargs -r gofmt -l); \
		if [ -n "$$files" ]; then echo "gofmt these:"; echo "$$files"; exit 1; fi
	$(GO) vet -tags $(TESTTAGS) ./...
	$(GO) tool staticcheck -tags $(TESTTAGS) ./...
	$(GO) run ./test/report -quiet -- $(GO) test -json -short -tags $(TESTTAGS) $$($(GO) list -tags $(TESTTAGS) ./... | grep -v /test/scenario)
	cd toolbox && $(GO) vet ./... && $(GO) test ./...

.PHONY: test
test: build kernel images conformance-tools stargz soci kubernetes ## everything this machine can run (as root; what cannot run is skipped with its reason)
	$(GO) run ./test/report -again 3 \
		-- $(GO) test -json -race $(RACE) \
		-- $(GO) test -json -tags $(TESTTAGS) $$($(GO) list -tags $(TESTTAGS) ./... | grep -vFx -e '' $$($(GO) list $(RACE) | sed 's/^/-e /') | grep -vE '/test/(scenario|vm)') \
		-- $(GO) test -json -count=1 -p 1 -timeout 25m ./test/scenario/... \
		-- $(GO) test -json -count=1 -timeout 15m ./test/vm/...
	cd toolbox && $(GO) test ./...

.PHONY: images
images: go ## build the test images into .cache/images (from Debian's own packages)
	@$(GO) run ./test/images -o .cache/images

# The suite and its client are built from a module of their own, which pins their versions.
CONFORMANCE := .cache/conformance

.PHONY: conformance-tools
conformance-tools: $(addprefix $(CONFORMANCE)/,critest crictl ginkgo) ## build upstream's CRI suite and client into .cache/conformance

$(CONFORMANCE)/critest: test/conformance/go.mod test/conformance/go.sum | go
	cd test/conformance && CGO_ENABLED=0 $(GO) test -c -trimpath -ldflags '-s -w' -o ../../$@ sigs.k8s.io/cri-tools/cmd/critest

$(CONFORMANCE)/crictl: test/conformance/go.mod test/conformance/go.sum | go
	cd test/conformance && CGO_ENABLED=0 $(GO) build -trimpath -tags nri_no_wasm -ldflags '-s -w' -o ../../$@ sigs.k8s.io/cri-tools/cmd/crictl

$(CONFORMANCE)/ginkgo: test/conformance/go.mod test/conformance/go.sum | go
	cd test/conformance && CGO_ENABLED=0 $(GO) build -trimpath -tags nri_no_wasm -ldflags '-s -w' -o ../../$@ github.com/onsi/ginkgo/v2/ginkgo

.PHONY: stargz
stargz: .cache/stargz/stargz ## build upstream's lazy-pulling snapshotter for the scenario tests into .cache/stargz

.cache/stargz/stargz: test/stargz/main.go test/stargz/go.mod test/stargz/go.sum | go
	cd test/stargz && CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o ../../$@ .

.PHONY: soci
soci: .cache/soci/soci ## build upstream's SOCI snapshotter, and what makes indexes for it, into .cache/soci (needs zlib1g-dev)

.cache/soci/soci: test/soci/main.go test/soci/go.mod test/soci/go.sum | go
	cd test/soci && CGO_ENABLED=1 $(GO) build -trimpath -ldflags '-s -w' -o ../../$@ .

.PHONY: kubernetes
kubernetes: .cache/kubernetes/kubernetes ## build upstream's kubelet, API server and kubectl for the scenario tests into .cache/kubernetes

.cache/kubernetes/kubernetes: test/kubernetes/main.go test/kubernetes/go.mod test/kubernetes/go.sum | go
	cd test/kubernetes && CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o ../../$@ .

.PHONY: conformance
conformance: build images conformance-tools ## run upstream's CRI suite against minid in every setting (as root)
	$(GO) run ./test/report -- $(GO) test -json -count=1 -timeout 15m -run '^TestConformance' ./test/scenario

.PHONY: test-vm
test-vm: build kernel ## boot a virtual machine with cgroup v2 alone, AppArmor and systemd, and run containers there (minutes: it is emulated)
	$(GO) run ./test/report -- $(GO) test -json -count=1 -timeout 15m ./test/vm/...

.PHONY: kernel
kernel: ## fetch Debian's kernel for the virtual machine of the tests into .cache/vm, where it can be had
	@scripts/vm-kernel

.PHONY: generate
generate: go ## write the generated code and documents anew
	$(GO) generate ./...

.PHONY: bench
bench: build images ## compare with runc, containerd and docker, over CRI too, and print the ratios (as root)
	$(GO) test -tags bench -count=1 -timeout 60m -run TestBench -v ./test/bench

.PHONY: install
install: build ## install the binaries below PREFIX and the systemd units (DESTDIR is honoured)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)$(PREFIX)/lib/systemd/user
	install -m 0755 $(addprefix bin/,$(BINARIES)) $(DESTDIR)$(PREFIX)/bin/
	sed 's|@BIN@|$(PREFIX)/bin|' scripts/minid.service > $(DESTDIR)$(PREFIX)/lib/systemd/system/minid.service
	sed 's|@BIN@|$(PREFIX)/bin|' scripts/minid-user.service > $(DESTDIR)$(PREFIX)/lib/systemd/user/minid.service

.PHONY: clean
clean: ## remove what was built, the cached test images too
	rm -rf bin .cache $(TOOLBOX)
