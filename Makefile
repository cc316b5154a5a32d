# Type `make` for the list of commands. Everything runs as root on Debian 12 with nothing but Go.

BIN          ?= bin
DESTDIR      ?=
CNI_BIN_DIR  ?= /opt/cni/bin
LINT_VERSION := v2.15.0
FUZZ_SECONDS ?= 120

# Where Go's own instructions put it, for a shell that has not got it in PATH. make 4.3 does not hand it on to $(shell).
export PATH := $(PATH):/usr/local/go/bin

PLUGINS := veth-host veth router underlayctl
LINT    := .tools/golangci-lint-$(LINT_VERSION)
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X underlay-cni/plugin.Version=$(VERSION) -funcalign=1
# A plugin stays below 4,500,000 bytes. Inlining is 6 % of one, and 12 % of the processor time of an ADD: it is on where most
# of that time is (of several patterns the last counts), which is 2 % and 10 %.
INLINED := runtime/... internal/... sync/... syscall strconv unicode/utf8
SMALL   := -gcflags=all=-l $(INLINED:%=-gcflags=%=)
# The version is stamped above; Go's own stamping fails in a checkout that belongs to another user.
STATIC  := CGO_ENABLED=0 go build -buildvcs=false -trimpath
# The race detector needs a C compiler, which is too big to install for it: on where there is one.
RACE    := $(if $(shell command -v gcc),-race)

.PHONY: help build demo test fuzz vm bench install lint tools clean setup go-version cni-tools
.NOTPARALLEL:

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 11

build: go-version ## static binaries in bin/
	@echo "build: $(addprefix $(BIN)/,$(PLUGINS)) $(VERSION)"
	@$(STATIC) $(SMALL) -ldflags '$(LDFLAGS)' -o $(BIN)/ $(addprefix ./plugin/,$(PLUGINS))

demo: setup build cni-tools ## two nodes, a client and pods out of namespaces; the table of paths with verdicts
	@scripts/demo.sh

test: setup build lint ## everything CI runs: lint, unit and integration tests, and `make vm`
	@echo "go test$(if $(RACE), with the race detector, without the race detector: no gcc)"
	@scripts/test.sh $(RACE)
	@$(MAKE) --no-print-directory vm

fuzz: setup ## each fuzz target for FUZZ_SECONDS (120), one after the other
	@scripts/fuzz.sh $(FUZZ_SECONDS)

vm: setup build cni-tools ## the tests that need another kernel: the real ipvlan and IPVS in qemu, ipvlan in user-mode Linux (minutes)
	@integration/vm/test.sh uml
	@integration/vm/test.sh qemu

bench: setup build cni-tools ## the benchmarks
	@go run ./integration/bench $(BENCH_ARGS)

install: build ## into $(DESTDIR)$(CNI_BIN_DIR), by rename
	@scripts/install.sh "$(DESTDIR)$(CNI_BIN_DIR)" $(addprefix $(BIN)/,$(PLUGINS))

lint: setup tools ## go.mod, go vet, golangci-lint, formatting, shellcheck
	@echo "lint: go.mod is tidy"
	@go mod tidy -diff
	@echo "lint: go vet"
	@scripts/say.sh "go vet" go vet ./...
	@echo "lint: golangci-lint"
	@scripts/say.sh golangci-lint $(LINT) run
	@$(LINT) fmt --diff
	@echo "lint: shellcheck"
	@shellcheck .ci/run scripts/*.sh integration/vm/*.sh

tools: cni-tools $(LINT) ## cni-tools, and golangci-lint

clean: ## remove bin/, dist/ and .tools/
	@rm -rf $(BIN) dist .tools

setup: go-version
	@scripts/setup.sh

go-version:
	@scripts/go.sh

# The `tool` lines of go.mod: the plugins and the caller that the tests, the demo and the benchmarks run.
cni-tools: go-version ## the real CNI plugins and cnitool in .tools/
	@echo "tools: $(sort $(notdir $(shell PATH="$(PATH)" go list tool)))"
	@scripts/say.sh tools env $(STATIC) -ldflags '-s -w' -o .tools/ tool

# Not in go.mod: its 200 dependencies are not ours. Built with the toolchain of this module, whose Go version it must know.
$(LINT):
	@echo "tools: golangci-lint $(LINT_VERSION) (takes minutes, once)"
	@GOTOOLCHAIN=$$(go env GOVERSION) GOBIN=$(CURDIR)/.tools scripts/say.sh "golangci-lint's build" go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	@mv .tools/golangci-lint $@
