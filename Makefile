# Two commands matter: `make demo` shows what Postern is, `make test` proves that it works.
GO      ?= go
BIN     := bin/postern
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -X postern.dev/postern/internal/app.version=$(VERSION)
FUZZ    ?= 3s
ROUNDS  ?= 12
PAIRS   ?= 5

.PHONY: all build demo test unit race both fuzz oracle e2e lint tools needs generate soak bench micro clean install

all: build

build:
	@mkdir -p bin
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/postern

demo: build
	$(BIN) demo $(DEMOFLAGS)

# test installs what the tests need and runs everything: what CI runs.
test: needs build lint race both fuzz

# unit is the quick loop: no race detector, no fuzzing.
unit:
	$(GO) test -shuffle=on ./...

race:
	POSTERN_KILL_ROUNDS=$(ROUNDS) sh scripts/test.sh -race -shuffle=on -timeout 20m ./...

# both asks the policy with its index and without, wherever a test asks it, and
# panics where the answers differ.
both:
	sh scripts/test.sh -tags postern_both ./internal/policy/... ./internal/app ./internal/demo

fuzz:
	sh scripts/fuzz.sh $(FUZZ)

# oracle holds the MIME reader against enmime, on the mail in POSTERN_CORPUS.
oracle:
	cd tools/oracle && $(GO) test -v ./...

lint: tools
	@test -z "$$(gofmt -l cmd internal)" || { gofmt -l cmd internal; echo 'lint: run gofmt -w on these'; exit 1; }
	$(GO) vet ./...
	bin/staticcheck ./...
	bin/revive -config tools/revive.toml -set_exit_status ./...

# generate writes the golden files anew; the tests fail where they are out of date.
generate:
	$(GO) test ./cmd/postern -run 'TestHelp' -update

# tools builds the linters at the versions that tools/go.mod pins.
tools: bin/staticcheck bin/revive

bin/staticcheck: tools/go.mod
	@mkdir -p bin
	cd tools && $(GO) build -o ../bin/staticcheck honnef.co/go/tools/cmd/staticcheck

bin/revive: tools/go.mod
	@mkdir -p bin
	cd tools && $(GO) build -o ../bin/revive github.com/mgechev/revive

# needs installs the Debian packages that the tests talk to.
needs:
	sh scripts/needs.sh

# soak is the long campaign behind the claims in docs/: about an hour.
soak: build
	POSTERN_KILL_ROUNDS=1000 POSTERN_SOAK=1 sh scripts/test.sh -timeout 3h ./...
	sh scripts/fuzz.sh 5m

# bench prints the table of docs/performance.md: Postern and Postfix in turns on this
# machine. It takes a quarter of an hour and wants the machine for itself.
bench: needs
	POSTERN_BENCH=$(PAIRS) $(GO) test ./cmd/postern -run '^TestThroughput$$' -count 1 -v -timeout 2h

# micro runs the benchmarks of single packages.
micro:
	$(GO) test -run '^$$' -bench . -benchmem ./internal/...

install: build
	install -D -m 0755 $(BIN) $(DESTDIR)/usr/bin/postern
	install -D -m 0644 packaging/postern.service $(DESTDIR)/lib/systemd/system/postern.service
	install -D -m 0644 packaging/postern.sysusers $(DESTDIR)/usr/lib/sysusers.d/postern.conf
	install -d -m 0755 $(DESTDIR)/etc/postern

clean:
	rm -rf bin
